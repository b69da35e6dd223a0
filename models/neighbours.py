"""Nearest rows within a memory bank, found once when it is fitted."""

from __future__ import annotations

import numba
import numpy as np

from deploy.errors import UserError

from .kcenter import ONLY_PRANGE

BLOCK_BYTES = 1 << 26  # of products at a time


def neighbours(
    bank: np.ndarray, half_norms: np.ndarray, owner: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of every row, and its stand-in, in one pass over all pairs.

    Args:
        bank: float32 [rows, channels].
        half_norms: half the squared norm of each row.
        owner: the picture that gave each row.
        count: nearest rows wanted, 1 to rows.

    Returns:
        int64 [rows, count], each row itself first, then by distance; and int64 [rows], the nearest row that another
        picture gave. Among equally near ones the first.

    Raises:
        UserError: all rows come from one picture.
    """
    if (owner == owner[0]).all():
        raise UserError("all rows of the memory bank come from one picture: give more pictures or raise --k")
    nearest, stand_in = np.empty((len(bank), count), np.int64), np.empty(len(bank), np.int64)
    step = max(1, BLOCK_BYTES // (4 * len(bank)))
    for start in range(0, len(bank), step):
        products = bank[start : start + step] @ bank.T
        _select(products, half_norms, owner, start, nearest, stand_in)
    return nearest, stand_in


@numba.njit(cache=True, parallel=ONLY_PRANGE)
def _select(
    products: np.ndarray,
    half_norms: np.ndarray,
    owner: np.ndarray,
    start: int,
    nearest: np.ndarray,
    stand_in: np.ndarray,
) -> None:
    """Fill in the block of rows from `start`; the nearest has the largest product minus half its squared norm."""
    count = nearest.shape[1]
    for i in numba.prange(len(products)):
        row = start + i
        best, best_other = np.full(count, -np.inf, np.float32), np.float32(-np.inf)
        best[0], nearest[row, 0] = np.inf, row  # itself, even when a copy of it exists
        for other in range(len(half_norms)):
            nearness = products[i, other] - half_norms[other]
            if nearness > best_other and owner[other] != owner[row]:
                best_other, stand_in[row] = nearness, other
            if nearness > best[-1] and other != row:
                place = count - 1
                while nearness > best[place - 1]:
                    best[place], nearest[row, place] = best[place - 1], nearest[row, place - 1]
                    place -= 1
                best[place], nearest[row, place] = nearness, other
