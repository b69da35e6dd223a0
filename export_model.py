"""Export a trained model as a static Paddle Inference program and its stats file.

python export_model.py --category bottle --method patchcore --arch resnet18 --k 10 --save_dir exported/bottle
"""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import Callable

import options
from datasets.readers import Category, find_categories
from deploy.command_line.parser import Arguments, Parser, positive
from deploy.command_line.script import run_script
from deploy.errors import Failed, UserError
from deploy.pictures.listing import list_pictures
from models import load_model, model_text
from models.distributed.launch import check_alone
from models.export.export import export

COMPARED = 8  # number of test pictures that the export is compared on
CATEGORY_HELP = "whose model: NAME[,NAME...], or all that a run left"
SAVE_DIR_HELP = "default: {save_path}/{method}_{arch}_{k}/{category}/export; of several, {save_dir}/{category}"
Find = Callable[[Path], list[Category]]


def main() -> int:
    parser = Parser(prog="export_model.py", usage="python %(prog)s [OPTIONS]", description=__doc__)
    options.add_data_option(parser, "its test pictures, if any, are compared", several=False)
    options.add_model_options(parser, several=False, category=CATEGORY_HELP)
    parser.group("export", "--layout fused --input uint8 --save_dir exported/bottle")
    parser.add_argument("--save_dir", default=None, help=SAVE_DIR_HELP)
    parser.add_argument("--img_size", type=positive, default=None, help="only checked: the crop size")
    parser.add_argument("--layout", choices=("split", "fused"), default="split", help="statistics in a file, or inside")
    parser.add_argument("--input", choices=("float32", "uint8"), default="float32", help="type of the program's input")
    parser.add_argument("--format", choices=("paddle", "onnx"), default="paddle", help="onnx: model.onnx as well")
    options.add_run_options(parser)
    args = parser.parse()
    check_alone("export_model.py")

    [seed] = options.asked_seeds(args)
    names = options.model_names(args, seed)
    failed, find = Failed(len(names)), cache(find_categories)  # the data are looked through once for all models
    for category, path in options.model_files(args, names, seed, failed).items():
        with failed.noted(category):
            stats = export_one(args, category, path, find, alone=len(names) == 1)
    if len(names) > 1 and not failed:
        folder = args.save_dir or stats.parents[2]
        print(f"serve them: python infer.py --serve 8080 --stats {shown(Path(folder))}")
    return failed.finish()


def export_one(args: Arguments, category: str, path: Path, find: Find, alone: bool) -> Path:
    """Export the model of `path`, to --save_dir itself if it is the only one (`alone`); return its stats file."""
    model = load_model(path, options.runtime(args))
    options.check_model(args, model, path)
    print(f"model: {path}\n{model_text(model)}", flush=True)
    folder = options.results_folder(args, model, path) / category / "export"
    if args.save_dir is not None:
        folder = Path(args.save_dir) / ("" if alone else category)
    tests, pictures = test_pictures(Path(args.data_path), category, find)
    done = export(model, folder, args.layout, args.input, args.format == "onnx", pictures)
    ways = ", ".join(f"{name} {value:.1e}" for name, value in done.compared.items() if name != "pictures")
    print(f"differs from dygraph by at most (relative): {ways}; on {len(pictures)} pictures of {tests} and a drawn one")
    print(f"export: {folder}: {', '.join(path.name for path in done.files.values())}")
    stats = done.files["stats"]
    print(f"run it: python infer.py --stats {shown(stats)} --input_file PICTURE|FOLDER", flush=True)
    return stats


def shown(path: Path) -> str:
    """Return the path quoted for a shell, relative to the working folder if it is below it."""
    here, path = Path(".").resolve(), path.resolve()
    return shlex.quote(str(path.relative_to(here) if here in path.parents else path))


def test_pictures(data_path: Path, category: str, find: Find) -> tuple[Path, list[Path]]:
    """Return the folder of the category's test pictures, and the first COMPARED of them, if there are any."""
    tests = data_path / category / "test"
    if tests.is_dir():
        return tests, list_pictures(tests)[:COMPARED]
    try:  # in another layout
        found = {one.name: one for one in find(data_path)}
        return data_path, [picture.path for picture in found[category].test_pictures()[:COMPARED]]
    except (UserError, KeyError):
        return tests, []


if __name__ == "__main__":
    run_script(main)
