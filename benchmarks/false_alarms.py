"""Promised and found rates of false alarms, over random splits of good pictures.

python -m benchmarks.false_alarms --data_path data/mvtec --splits 200

In every split half of a category's good pictures, of training and test together, fit a small model, and the other half
is scored. What the promise rests on, good pictures that are exchangeable, holds here by construction.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import binom

from datasets.readers import Category
from deploy.command_line.parser import Parser, natural, positive
from deploy.command_line.progress import progress
from deploy.command_line.script import run_script
from deploy.pictures.decode import decode
from deploy.pictures.preprocess import Preprocess
from deploy.storage.files import write_whole
from models import AnomalyMethod, build_model
from models.presets import preset

from .report import table
from .selection import categories_in

RATES = (0.01, 0.05, 0.1)
SIZE = 96  # pixels; small, because the guarantee does not depend on how good a model is
K = {"patchcore": 5.0, "padim": 30, "orthoad": 30, "spade": 10}


def main() -> int:
    """Print the table and write it to FILE."""
    parser = Parser(prog="python -m benchmarks.false_alarms", description=__doc__)
    parser.add_argument("--data_path", nargs="+", required=True, metavar="FOLDER", help="with categories as MVTec AD")
    parser.add_argument("--category", default="all", help="NAME[,NAME...] or all")
    parser.add_argument("--method", nargs="+", default=list(K), choices=list(K), help="which are fitted")
    parser.add_argument("--splits", type=positive, default=200, help="random halves of every category's good pictures")
    parser.add_argument("--seed", type=natural, default=521, help="decides everything random")
    parser.add_argument("--output", default="output/false_alarms.md", help="receives the table")
    args = parser.parse()
    rows = []
    for category in categories_in(args.data_path, args.category):
        pictures = good_pictures(category)
        for method in args.method:
            rows.append([category.name, method, *found(method, pictures, args.splits, args.seed)])
            print(" ".join(rows[-1]), flush=True)
    head = ["data", "method", *(f"promised {rate:g}: found, splits above the bound" for rate in RATES)]
    print(write_whole(Path(args.output), "\n".join(table(head, rows)) + "\n"))
    return 0


def good_pictures(category: Category) -> list[np.ndarray]:
    """Return all good pictures of a category, resized as a whole: uint8 [SIZE, SIZE, 3]."""
    paths = [*category.train_pictures(), *(p.path for p in category.test_pictures() if not p.defective)]
    shown = progress(paths, len(paths), f"read {category.name}")
    return [cv2.resize(decode(path), (SIZE, SIZE), interpolation=cv2.INTER_AREA) for path in shown]


def found(method: str, pictures: list[np.ndarray], splits: int, seed: int) -> list[str]:
    """Return for each of RATES the mean false alarm rate, and the share of splits with more than chance explains.

    The bound is the number of alarms that is exceeded with a fixed rate in one of twenty cases.
    """
    random, model = np.random.default_rng(seed), small_model(method, seed)
    fitted, alarms = len(pictures) // 2, []
    for _ in progress(range(splits), splits, method):
        order = random.permutation(len(pictures))
        model.fit([pictures[i] for i in sorted(order[:fitted])])
        scores = [prediction.score for prediction in model.predict([pictures[i] for i in order[fitted:]], 8)]
        levels = [model.calibration.at(false_alarm=rate).image_threshold for rate in RATES]
        alarms.append([sum(score > level for score in scores) for level in levels])
    tested = len(pictures) - fitted
    cells = []
    for rate, counts in zip(RATES, np.array(alarms).T):
        above = (counts > binom.ppf(0.95, tested, rate)).mean()
        least = 1 / (fitted + 1)
        estimated = " (estimate)" if rate < least and not math.isclose(rate, least) else ""
        cells.append(f"{counts.mean() / tested:.3f}, {above:.2f}{estimated}")
    return cells


def small_model(method: str, seed: int) -> AnomalyMethod:
    """Return a model with the default preset's layers and options that can be fitted in a fraction of a second."""
    default, preprocess = preset(method), Preprocess(SIZE, SIZE)
    given = {"k": K[method], "preprocess": preprocess, "seed": seed, **default.options}
    return build_model(method, ["compact"], [default.layers], [None], **given)


if __name__ == "__main__":
    run_script(main)
