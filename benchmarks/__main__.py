"""Times PaddlePatch side by side with other ways to do the same, on the same pictures and weights.

python -m benchmarks --data_path data/mvtec --category bottle,carpet --weights resnet18.pdparams
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from datasets.readers import Category, select_categories
from datasets.sample import write_sample
from deploy.command_line.parser import Arguments, Parser, command_line, natural, positive, threads
from deploy.command_line.script import run_script
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.program import Runtime
from deploy.storage.files import scratch_folder, write_whole
from models.backbones.backbone import ARCHS
from models.registry import METHODS

from . import ceilings, machine
from .report import Report
from .selection import categories_in, shape
from .subject import Subject

STAGES = ("coreset", "sweep", "search", "fit", "padim", "decode", "pro", "anomalib")
MORE = ("backbones", "scaling", "quality", "serve")
"""Stages that run only when they are named in --stages."""
SAMPLE = "washer,fabric"
SHAPES = [
    *((rows, share) for rows in (2_000, 10_000) for share in (0.5, 5.0, 50.0)),
    *((50_000, share) for share in (0.5, 5.0, 20.0)),
    *((200_000, share) for share in (0.5, 2.0)),
    (500_000, 0.5),
]
"""Numbers of patches and percentages for which brute force takes at most a minute or two."""


def main() -> int:
    """Measure, print results as they come, and write FILE.md and FILE.json."""
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *MORE), default=STAGES, metavar="STAGE",
                        help=f"of {', '.join((*STAGES, *MORE))}")  # fmt: skip
    parser.add_argument("--data_path", nargs="+", default=None, metavar="FOLDER",
                        help="with categories as in MVTec AD; sample data is drawn if not given")  # fmt: skip
    parser.add_argument("--category", default="all",
                        help="coreset, search, fits, quality: on all of them; other stages on the first")  # fmt: skip
    parser.add_argument("--weights", default=None, help="ResNet-18's, as in train.py; if not given, compact is used")
    parser.add_argument("--resize", type=positive, default=256, help="short side in pixels")
    parser.add_argument("--crop_size", type=positive, default=224, help="centre crop in pixels")
    parser.add_argument("--noise", type=positive, default=200_000, metavar="ROWS",
                        help="stage coreset: rows of uniform noise")  # fmt: skip
    parser.add_argument("--shapes", nargs="+", type=shape, default=SHAPES, metavar="PATCHES:PERCENT",
                        help="stage sweep: how many are there, how many chosen")  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=30, help="turns; a tenth of it for what takes seconds")
    parser.add_argument("--cpu_threads", type=threads, default=None, help="one per core if not given")
    parser.flag("enable_mkldnn", True, "use oneDNN")
    parser.add_argument("--seed", type=natural, default=521, help="decides everything random")
    parser.add_argument("--output", default="output/benchmarks", help="where FILE.md and FILE.json go, without suffix")
    parser.add_argument("--archs", nargs="+", choices=ARCHS, default=["resnet18", "compact"], metavar="ARCH",
                        help="stage backbones: which; the first is the measure")  # fmt: skip
    parser.add_argument("--layers", nargs="+", default=["layer1", "layer2", "layer3"], help="stage backbones: read at")
    parser.add_argument("--counts", nargs="+", type=positive, default=[50, 209, 836, 3344], metavar="PICTURES",
                        help="stage scaling: how many pictures")  # fmt: skip
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD",
                        help="stage quality: whose presets")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=natural, default=[1, 2, 3], help="stage quality: mean over these")
    args = parser.parse()
    with scratch_folder() as folder:
        if args.data_path is None:
            print("drawing sample data", flush=True)
            write_sample(folder, args.seed, categories=SAMPLE.split(","))
            measure(args, select_categories(folder, SAMPLE))
        else:
            measure(args, categories_in(args.data_path, args.category))
    return 0


def measure(args: Arguments, categories: list[Category]) -> None:
    """Run the stages; write the report after each of them."""
    subject = Subject(
        categories,
        "compact" if args.weights is None else "resnet18",
        args.weights,
        Preprocess(args.resize, args.crop_size),
        args.seed,
        args.rounds,
        Runtime(threads=args.cpu_threads, onednn=args.enable_mkldnn),
        args.counts,
        args.archs,
        args.layers,
        args.noise,
        args.shapes,
        args.methods,
        args.seeds,
        Path(args.output).parent,
    )
    report = Report(machine.describe(), provenance(args, subject))
    report.ceilings = ceilings.measure(subject.threads)
    print(report.markdown(), flush=True)
    for name in args.stages:
        report.stages.append(import_module(f"{__package__}.stages.{name}").run(subject))
        print("\n".join([*report.stage_lines(report.stages[-1]), ""]), flush=True)
        write_whole(f"{args.output}.md", report.markdown())
        write_whole(f"{args.output}.json", json.dumps(report.json(), indent=1) + "\n")
    print(f"{args.output}.md, {args.output}.json")


OF_A_STAGE = ("archs", "layers", "counts", "shapes", "methods", "seeds")
"""Options of one stage, which the recorded command contains only if they were given."""


def provenance(args: Arguments, subject: Subject) -> dict[str, object]:
    """Return the command that repeats the run, and the data, weights and threads that it was run with."""
    pictures = []
    for category in subject.categories:
        pictures += [*category.train_pictures(), *(picture.path for picture in category.test_pictures())]
    backbone = subject.build("patchcore").backbone
    given = {name: value for name, value in vars(args).items() if name not in OF_A_STAGE or name in args.given}
    given |= {"stages": list(args.stages), "output": None}
    if "shapes" in given:
        given["shapes"] = [f"{rows}:{share:g}" for rows, share in args.shapes]
    return {
        "command": command_line("python -m benchmarks", given),
        "seed": args.seed,
        "data": f"{', '.join(c.name for c in subject.categories)}"
        + ("" if args.data_path else " of the sample data")
        + f", {len(pictures)} pictures",
        "data_sha256": machine.data_sha256(pictures),
        "backbone": f"{subject.arch}, {Path(backbone.source).name}, sha256 {backbone.sha256[:16]}",
        "threads": subject.threads,
    }


if __name__ == "__main__":
    run_script(main)
