"""Measures the cost model on this machine, holds it against other runs, and says what plants need.

python -m benchmarks.plan --data_path data/mvtec --category bottle --weights resnet18.pdparams

Linux only. `train.py`, `export_model.py` and `infer.py` run as they are, one thread on one core each.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deploy.command_line.parser import Parser, command_line, natural, positive
from deploy.command_line.script import run_script
from deploy.errors import UserError
from deploy.storage.files import scratch_folder, write_whole
from models.registry import METHODS

from . import machine
from .costs import BUSY, Fit, Megabytes, Run, Scoring, need
from .report import table
from .scripts_alone import Scripts
from .selection import categories_in

CATEGORIES = (15, 1_000, 100_000)
PER_DAY = 1e9
"""Number of pictures per day that are scored."""


def main() -> int:
    """Print the measurements, and write FILE.md and FILE.json."""
    parser = Parser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--data_path", nargs="+", required=True, metavar="FOLDER", help="with categories as MVTec AD")
    parser.add_argument("--category", required=True, help="the one that stands for all")
    parser.add_argument("--method", default="patchcore", choices=METHODS, help="with the settings of its preset")
    parser.add_argument("--weights", default=None, help="ResNet-18's, as in train.py; if not given, compact is used")
    parser.add_argument("--counts", nargs="+", type=positive, default=[20, 50, 100], metavar="PICTURES",
                        help="training pictures of the runs that the model is made from")  # fmt: skip
    parser.add_argument("--checks", nargs="*", type=positive, default=[35, 140, 200], metavar="PICTURES",
                        help="of those that it is held against, in one process and in two")  # fmt: skip
    parser.add_argument("--scored", nargs=2, type=positive, default=[10, 60], metavar="PICTURES",
                        help="of the two runs that the costs of a prediction are taken from")  # fmt: skip
    parser.add_argument("--seed", type=natural, default=521, help="decides everything random")
    parser.add_argument("--output", default="output/plan", help="where FILE.md and FILE.json go, without suffix")
    args = parser.parse()
    if not hasattr(os, "wait4") or not hasattr(os, "sched_setaffinity"):
        raise UserError("this system does not tell what a process took, Linux does")
    category, *others = categories_in(args.data_path, args.category)
    if others:
        raise UserError("--category: give one")
    pictures = category.train_pictures()
    sizes = [*args.counts, *args.checks]
    if max(sizes) > len(pictures) or len({*sizes}) < len(sizes) or len({*args.scored}) == 1:
        raise UserError(
            f"--counts, --checks: {category.name} has {len(pictures)} training pictures; give every number once; "
            "--scored: give two different numbers"
        )
    with scratch_folder() as folder:
        found = measure(args, Scripts(folder, pictures, words_of(args)))
    origin = {"command": command_line("python -m benchmarks.plan", vars(args))}
    origin |= {"data_sha256": machine.data_sha256(pictures), **machine.describe()}
    write_whole(f"{args.output}.json", json.dumps({**origin, **found}, indent=1) + "\n")
    head = [f"`{origin['command']}`", "", f"{origin['cpu']['model']}, {origin['cpu']['cores']} cores", ""]
    print(write_whole(f"{args.output}.md", "\n".join([*head, *page(found)]) + "\n"))
    return 0


def words_of(args: Namespace) -> list[str]:
    """Return the options of train.py."""
    weights = args.weights and str(Path(args.weights).resolve())
    arch = ["--arch", "resnet18", "--weights", weights] if weights else ["--arch", "compact"]
    return ["--method", args.method, *arch, "--seed", str(args.seed)]


def measure(args: Namespace, scripts: Scripts) -> dict[str, object]:
    """Return all figures by name: `runs`, `fit`, `checks`, `scoring`, `megabytes`, `needs`."""
    counts, largest, both = sorted(args.counts), max(args.counts), "two fits by two processes"
    runs = [told(scripts.train(count), "fit") for count in counts]
    runs.append(told(scripts.train(counts[0], 2), "two fits"))
    by_two = [told(scripts.train(n, 2, True), both) for n in counts[:: max(1, len(counts) - 1)] if args.checks]
    fit, checks = Fit.through(runs, by_two), []
    for count in sorted(args.checks):
        alone, apart = told(scripts.train(count), "fit"), told(scripts.train(count, 2, True), both)
        checks += [
            ("one process, core seconds", count, fit.seconds(count), alone.cpu),
            ("one process, seconds", count, fit.wall(count, 1, 1), alone.wall),
            ("two processes, a category each, seconds", count, fit.wall(count, 2, 2), apart.wall),
        ]
        shared = told(scripts.train(count, 1, True), "fit by two processes")
        checks.append(("two processes, one category, seconds", count, fit.wall(count, 1, 2), shared.wall))
    export = scripts.export(largest)
    few, many = (told(scripts.infer(count), "scored") for count in sorted(args.scored))
    drawn = told(scripts.infer(many.pictures, True), "scored, with heat maps")
    scoring = Scoring.through(few, many, drawn)
    maps = list((scripts.folder / "scores").rglob("heatmaps/*.png"))
    sizes = Megabytes(
        megabytes(scripts.pictures) / len(scripts.pictures),
        megabytes(maps) / len(maps),
        megabytes([scripts.model_of(largest)]),
        megabytes([path for path in export.rglob("*") if path.is_file()]),
    )
    needs = {categories: need(fit, scoring, sizes, categories, largest, PER_DAY) for categories in CATEGORIES}
    return {
        "runs": [run._asdict() for run in runs],
        "fit": asdict(fit),
        "checks": checks,
        "scoring": asdict(scoring),
        "megabytes": asdict(sizes),
        "needs": {categories: asdict(value) for categories, value in needs.items()},
    }


def megabytes(paths: list[Path]) -> float:
    """Return the files' size on disk, in MB."""
    return sum(path.stat().st_size for path in paths) / 1e6


def told(run: Run, what: str) -> Run:
    """Print a line about the run, and return the run."""
    print(f"{what}: {run.pictures} pictures, {run.cpu:.1f} core seconds, {run.wall:.1f} s", flush=True)
    return run


def page(found: dict) -> list[str]:
    """Return the page with three tables: costs, predicted and measured times, and the needs of plants."""
    fit, scoring, sizes = found["fit"], found["scoring"], found["megabytes"]
    by_two = [
        ["... of two processes, later", f"{fit['launch']:.3g} seconds", ""],
        ["... with both cores computing", f"{fit['crowded']:.3g} times as long", ""],
    ]
    costs = [
        ["train.py: start", f"{fit['process']:.3g} core seconds", ""],
        *(by_two if found["checks"] else []),
        ["a fit: per category", f"{fit['category']:.3g} core seconds", f"model: {sizes['model']:.3g} MB"],
        ["a fit: per picture", f"{fit['picture']:.3g} core seconds", f"picture: {sizes['picture']:.3g} MB"],
        ["a fit: per picture squared", f"{1e3 * fit['square']:.3g} core milliseconds", ""],
        ["infer.py: start", f"{scoring['start']:.3g} core seconds", f"export: {sizes['export']:.3g} MB"],
        ["infer.py: per picture", f"{1e3 * scoring['picture']:.3g} core milliseconds", ""],
        [
            "... with a heat map, more",
            f"{1e3 * scoring['heat_map']:.3g} core milliseconds",
            f"{sizes['heat_map']:.3g} MB",
        ],
        ["infer.py: memory", f"{scoring['peak_mb']:.0f} MB", ""],
    ]
    checks = [
        [what, str(count), f"{expected:.1f}", f"{measured:.1f}", f"{expected / measured - 1:+.0%}"]
        for what, count, expected, measured in found["checks"]
    ]
    needs = [
        [
            f"{categories:,}",
            f"{value['fit_hours']:,.3g}",
            f"{value['models_gb']:,.3g} and {value['exports_gb']:,.3g}",
            f"{np.ceil(value['cores']):,.0f}",
            f"{value['read_mb']:,.0f}",
            f"{value['written_gb']:,.0f}",
            f"{value['memory_gb']:,.0f}",
        ]
        for categories, value in found["needs"].items()
    ]
    lines = [*table(["stage", "costs", "on disk"], costs), ""]
    if checks:
        lines += [*table(["run", "pictures", "predicted", "measured", "error"], checks), ""]
    head = ["categories", "core hours to fit", "models and exports, GB", f"cores for {PER_DAY:.0e} pictures a day"]
    head += ["pictures, MB/s", "heat maps, GB a day", "memory, GB"]
    lines += [*table(head, needs), ""]
    return [*lines, f"Cores compute {BUSY:.0%} of the time; a heat map of every picture is not in them."]


if __name__ == "__main__":
    run_script(main)
