"""Greedy k-center by brute force, and how much faster the pruned one is.

python -m benchmarks.brute_force --data_path data/mvtec --category bottle --weights WEIGHTS
"""

from __future__ import annotations

import time

import numba
import numpy as np

from datasets.mvtec import select_categories
from deploy.errors import run_script
from deploy.options import Parser, positive
from models import PatchCore
from models.compiled import compile_embedding
from models.kcenter import FAST, MARGIN, exact, k_center


@numba.njit(parallel=True, fastmath=FAST)
def brute_force_k_center(points: np.ndarray, count: int, first: int) -> np.ndarray:
    """Algorithm 1 of the paper as it reads: float32 [rows, dimensions] to int64 [count] row numbers.

    Every distance is computed, in float32 with SIMD and on all cores; those that come within rounding of the smallest
    so far (a hundredth of a percent of all) again in double precision, so that ties and near ties are told apart alike.
    """
    rows, dimensions = points.shape
    squared = np.full(rows, np.inf)
    chosen, point = np.empty(count, np.int64), first
    for new in range(count):
        chosen[new] = point
        target = points[point]
        for i in numba.prange(rows):
            total = np.float32(0)
            for d in range(dimensions):
                step = points[i, d] - target[d]
                total += step * step
            if total <= MARGIN * squared[i]:
                squared[i] = min(squared[i], exact(points[i], target))
        point = np.argmax(squared)
    return chosen


def projected(data_path: str, category: str, weights: str | None) -> tuple[np.ndarray, int]:
    """The projected patches of a category's training pictures, and how many of them the coreset keeps."""
    model = PatchCore(weights=weights)
    pictures = select_categories(data_path, category)[0].train_pictures()
    model._absorb(compile_embedding(model, model.runtime), pictures, 8, None, None)
    return model._sampler._turned(), model._sampler.wanted(model._sampler.seen)


def main() -> int:
    """Print the times of both and whether they choose the same."""
    parser = Parser(prog="python -m benchmarks.brute_force", description=__doc__)
    parser.add_argument("--data_path", default="./data/mvtec", help="the folder that holds the categories")
    parser.add_argument("--category", default="bottle", help="one category")
    parser.add_argument("--weights", default=None, help="backbone weights (.pdparams), or 'random'")
    parser.add_argument("--count", type=positive, default=None, help="rows to choose; a tenth if not given")
    parser.add_argument("--rounds", type=positive, default=3, help="of each, in turns")
    args = parser.parse()
    points, count = projected(args.data_path, args.category, args.weights)
    count = args.count or count
    for compiling in (k_center, brute_force_k_center):
        compiling(points[:1000].copy(), 10, 0)
    print(f"{len(points)} rows of {points.shape[1]} dimensions, {count} to choose, {numba.get_num_threads()} threads")
    times: dict[str, list[float]] = {"pruned": [], "brute force": []}
    for _ in range(args.rounds):
        found = []
        for name, choose in (("pruned", k_center), ("brute force", brute_force_k_center)):
            begin = time.perf_counter()
            found.append(choose(points, count, 0))
            times[name].append(time.perf_counter() - begin)
        same = "the same rows in the same order" if (found[0] == found[1]).all() else "NOT THE SAME ROWS"
        print(f"pruned {times['pruned'][-1]:.2f} s, brute force {times['brute force'][-1]:.2f} s: {same}", flush=True)
    print(f"medians: {np.median(times['brute force']) / np.median(times['pruned']):.1f} times as fast")
    return 0


if __name__ == "__main__":
    run_script(main)
