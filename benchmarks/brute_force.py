"""Greedy k-center by brute force."""

from __future__ import annotations

import numba
import numpy as np

from models.memory_bank.distances import FAST, MARGIN, exact


@numba.njit(cache=True, parallel=True, fastmath=FAST)
def brute_force_k_center(points: np.ndarray, count: int, first: int) -> np.ndarray:
    """Algorithm 1 of the paper, literally: float32 [rows, dimensions] to int64 [count] row numbers.

    Every distance is computed in float32, with SIMD and on all cores. Distances within rounding of the smallest so far
    (a hundredth of a percent of all) are computed again in double precision, so that ties and near ties are decided as
    in our own code.
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
                squared[i] = min(squared[i], exact(points, i, points, point))
        point = np.argmax(squared)
    return chosen
