"""Export a trained model as a static Paddle Inference program and its stats file.

python export_model.py --category bottle --method patchcore --arch resnet18 --k 10 --save_dir exported/bottle
"""

from __future__ import annotations

from pathlib import Path

import options
from deploy.errors import run_script
from deploy.options import Parser, positive
from deploy.tables import header_text
from models import load_model
from models.export import export


def main() -> int:
    parser = Parser(prog="export_model.py", description=__doc__)
    options.add_model_options(parser, category=None)
    parser.add_argument("--model_path", default=None, help="a model file, instead of looking it up")
    parser.add_argument("--save_dir", default=None, help="default: {save_path}/{method}_{arch}_{k}/{category}/export")
    parser.add_argument("--img_size", dest="crop_size", type=positive, default=None, help="only checked: the crop size")
    options.add_run_options(parser)
    args = parser.parse()

    category = options.one_category(args)
    path = options.model_file(args, category)
    model = load_model(path, options.runtime(args))
    options.check_model(args, model, path)
    print(f"{path}: {header_text(model.header)}", flush=True)
    done = export(model, args.save_dir or options.results_folder(args, model) / category / "export")
    print(f"the program agrees with dygraph to {done.difference:.1e} (relative)")
    print(f"program: {done.model_file} {done.params_file}; stats: {done.stats}")
    here = Path(".").resolve()
    stats = done.stats.resolve()
    shown = stats.relative_to(here) if here in stats.parents else stats
    print(f"run it: python infer.py --stats {shown} --input_file PICTURE|FOLDER")
    return 0


if __name__ == "__main__":
    run_script(main)
