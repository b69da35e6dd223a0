"""Nearest neighbours of each row within a memory bank, and distances to them; computed when the bank is fitted."""

from __future__ import annotations

import cv2
import numba
import numpy as np

from deploy.command_line.progress import progress
from deploy.errors import UserError

from ..distributed.group import Group
from .front import ONLY_PRANGE
from .native import native

BLOCK = 2048  # products of BLOCK rows with BLOCK rows are held in memory at a time
AROUND = 5  # neighbours from which the density of the bank around a row is estimated
NEAR = 16  # neighbours of a row that `least_spacing` regards: a search may find one of them to be nearer than the row
CHUNK = 32  # products that are compared together; most chunks hold no row that is near enough


def neighbours(
    bank: np.ndarray, half_norms: np.ndarray, owner: np.ndarray, count: int, group: Group | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest rows of every row, and the row that replaces it when it is held out, in one pass over all pairs.

    Args:
        bank: float32 [rows, channels].
        half_norms: half the squared norm of each row.
        owner: number of the picture, or of the group of pictures held out together, that each row comes from.
        count: how many nearest rows are wanted, 1 to rows.
        group: the processes that divide the pairs among them; each has the whole bank.

    Returns:
        int64 [rows, count], first the row itself, then the others by distance; and int64 [rows], the nearest row
        of another owner. Of equally near rows, the one with the lowest number.

    Raises:
        UserError: all rows have one owner.
    """
    if (owner == owner[0]).all():
        raise UserError("all rows of the memory bank come from one picture: give more pictures or raise --k")
    rows, group = len(bank), group or Group()
    best, best_other = np.full((rows, count), -np.inf, np.float32), np.full(rows, -np.inf, np.float32)
    nearest, replacement = np.zeros((rows, count), np.int64), np.zeros(rows, np.int64)
    best[:, 0], nearest[:, 0] = np.inf, np.arange(rows)  # the row itself comes first, even if it has a copy
    pairs = [(start, other) for start in range(0, rows, BLOCK) for other in range(start, rows, BLOCK)]
    pairs = pairs[group.rank :: group.size]
    for start, other in progress(pairs, len(pairs), "neighbours", "block", delay=1):
        products = bank[start : start + BLOCK] @ bank[other : other + BLOCK].T
        _select(products, half_norms, owner, start, other, best, nearest, best_other, replacement)
        if other > start:  # the transposed products serve the other rows; each row still sees the others in order
            _select(cv2.transpose(products), half_norms, owner, other, start, best, nearest, best_other, replacement)
    if group.size > 1:
        nearest[:, 1:] = _largest_of_all(best[:, 1:], nearest[:, 1:], group)
        replacement = _largest_of_all(best_other[:, None], replacement[:, None], group)[:, 0]
    return nearest, replacement


def _largest_of_all(nearness: np.ndarray, others: np.ndarray, group: Group) -> np.ndarray:
    """Merge what all processes found, [rows, n] each: the n `others` of largest nearness, ties by lowest number."""
    found = np.concatenate(group.gather(np.ascontiguousarray(nearness)), axis=1)
    numbers = np.concatenate(group.gather(np.ascontiguousarray(others)), axis=1)
    order = np.lexsort((numbers, -found), axis=1)[:, : others.shape[1]]
    return np.take_along_axis(numbers, order, axis=1)


def spacing(bank: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return each row's mean distance to its AROUND nearest other rows, float32 [rows], above 0.

    A patch's distance is divided by the spacing of its nearest row. A patch that is as far from this row as the row is
    from its neighbours is then as normal as they are, in dense and in sparse regions alike (a simple form of the local
    outlier factor, Breunig et al. 2000, "LOF"). A spacing is at least a hundredth of the mean spacing, so copies of a
    row do not make it 0.

    `nearest` is the result of `neighbours` with at least AROUND + 1 columns, or with all rows.
    """
    total = np.zeros(len(bank))
    others = nearest[:, 1 : AROUND + 1]
    for column in others.T:
        for start in range(0, len(bank), BLOCK):
            offset = bank[start : start + BLOCK] - bank[column[start : start + BLOCK]]
            total[start : start + BLOCK] += np.sqrt(np.einsum("ij,ij->i", offset, offset))
    mean = total / others.shape[1]
    return np.maximum(mean, mean.mean() / 100 or 1.0).astype(np.float32)


def least_spacing(spacing: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return the smallest spacing among each row and its NEAR nearest rows, float32 [rows].

    `nearest` is the result of `neighbours` with at least NEAR + 1 columns, or with all rows.
    """
    return spacing[nearest[:, : NEAR + 1]].min(axis=1)


@native(fastmath={"nnan", "nsz", "reassoc"})
def _largest(products: np.ndarray, half_norms: np.ndarray) -> float:
    """The largest nearness: product minus half the squared norm."""
    largest = np.float32(-np.inf)
    for i in range(len(products)):
        largest = max(largest, products[i] - half_norms[i])
    return largest


@native(parallel=ONLY_PRANGE)
def _select(
    products: np.ndarray,
    half_norms: np.ndarray,
    owner: np.ndarray,
    first_row: int,
    first_other: int,
    best: np.ndarray,
    nearest: np.ndarray,
    best_other: np.ndarray,
    replacement: np.ndarray,
) -> None:
    """Update the nearest rows of a block of rows with the products of one block of others.

    The nearness of another row is its product minus half its squared norm; the nearest row has the largest one.

    Args:
        products: float32 [rows of the block, others of the block].
        half_norms: half the squared norm of every row of the bank.
        owner: number of the picture that each row comes from.
        first_row: number of the first row of `products`.
        first_other: number of its first column.
        best: nearness of the rows in `nearest`, changed in place.
        nearest: the nearest rows so far, changed in place.
        best_other: nearness of the rows in `replacement`, changed in place.
        replacement: the nearest row so far that comes from another picture, changed in place.
    """
    last = best.shape[1] - 1
    for i in numba.prange(len(products)):
        row = first_row + i
        for chunk in range(0, products.shape[1], CHUNK):
            some = products[i, chunk : chunk + CHUNK]
            begin = first_other + chunk
            if _largest(some, half_norms[begin : begin + CHUNK]) <= min(best[row, last], best_other[row]):
                continue
            for j in range(len(some)):
                other = begin + j
                nearness = some[j] - half_norms[other]
                if nearness > best_other[row] and owner[other] != owner[row]:
                    best_other[row], replacement[row] = nearness, other
                if nearness > best[row, last] and other != row:
                    place = last
                    while nearness > best[row, place - 1]:
                        best[row, place], nearest[row, place] = best[row, place - 1], nearest[row, place - 1]
                        place -= 1
                    best[row, place], nearest[row, place] = nearness, other
