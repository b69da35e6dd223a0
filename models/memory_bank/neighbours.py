"""Nearest rows within a memory bank, found once when it is fitted."""

from __future__ import annotations

import cv2
import numba
import numpy as np

from deploy.command_line.progress import progress
from deploy.errors import UserError

from ..distributed.group import Group
from .front import ONLY_PRANGE
from .native import native

BLOCK = 2048  # rows whose products with as many others are held at a time
AROUND = 5  # rows that tell how dense the bank is around another
NEAR = 16  # rows around another of which one may be the nearest in its place
CHUNK = 32  # of them looked at together, by SIMD: most hold nothing near enough


def neighbours(
    bank: np.ndarray, half_norms: np.ndarray, owner: np.ndarray, count: int, group: Group | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of every row, and its replacement in leave-one-out, in one pass over all pairs.

    Args:
        bank: float32 [rows, channels].
        half_norms: half the squared norm of each row.
        owner: the picture that gave each row.
        count: nearest rows wanted, 1 to rows.
        group: the processes that share the pairs; all have the bank.

    Returns:
        int64 [rows, count], each row itself first, then by distance; and int64 [rows], the nearest row that another
        picture gave. Among equally near ones the first.

    Raises:
        UserError: all rows come from one picture.
    """
    if (owner == owner[0]).all():
        raise UserError("all rows of the memory bank come from one picture: give more pictures or raise --k")
    rows, group = len(bank), group or Group()
    best, best_other = np.full((rows, count), -np.inf, np.float32), np.full(rows, -np.inf, np.float32)
    nearest, replacement = np.zeros((rows, count), np.int64), np.zeros(rows, np.int64)
    best[:, 0], nearest[:, 0] = np.inf, np.arange(rows)  # itself, even when a copy of it exists
    pairs = [(start, other) for start in range(0, rows, BLOCK) for other in range(start, rows, BLOCK)]
    pairs = pairs[group.rank :: group.size]
    for start, other in progress(pairs, len(pairs), "neighbours", "block", delay=1):
        products = bank[start : start + BLOCK] @ bank[other : other + BLOCK].T
        _select(products, half_norms, owner, start, other, best, nearest, best_other, replacement)
        if other > start:  # the same products the other way round; every row still meets the others in order
            _select(cv2.transpose(products), half_norms, owner, other, start, best, nearest, best_other, replacement)
    if group.size > 1:
        nearest[:, 1:] = _largest_of_all(best[:, 1:], nearest[:, 1:], group)
        replacement = _largest_of_all(best_other[:, None], replacement[:, None], group)[:, 0]
    return nearest, replacement


def _largest_of_all(nearness: np.ndarray, others: np.ndarray, group: Group) -> np.ndarray:
    """Of what all processes found, [rows, n] each, the `others` of largest nearness, of equally near ones the first."""
    found = np.concatenate(group.gather(np.ascontiguousarray(nearness)), axis=1)
    numbers = np.concatenate(group.gather(np.ascontiguousarray(others)), axis=1)
    order = np.lexsort((numbers, -found), axis=1)[:, : others.shape[1]]
    return np.take_along_axis(numbers, order, axis=1)


def spacing(bank: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return each row's mean distance to its AROUND nearest other rows, float32 [rows], above 0.

    A patch that is as far from its nearest row as that row is from its neighbours is as common as they are, wherever in
    the features it lies: a local outlier factor of one step (Breunig et al. 2000, "LOF"). `nearest` is what
    `neighbours` gives, with AROUND + 1 columns or more, or all rows. Copies of a row are no nearer than a hundredth of
    the mean.
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
    """Return the least of each row's own spacing and those of its NEAR nearest rows, float32 [rows].

    `nearest` is what `neighbours` gives, with NEAR + 1 columns or more, or all rows.
    """
    return spacing[nearest[:, : NEAR + 1]].min(axis=1)


@native(fastmath={"nnan", "nsz", "reassoc"})
def _largest(products: np.ndarray, half_norms: np.ndarray) -> float:
    """The largest nearness."""
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
    """Take a block of others into account; the nearest has the largest product minus half its squared norm."""
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
