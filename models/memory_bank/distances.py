"""Squared distances of float32 rows, exact and approximate, and products of packed rows that give lower bounds.

Rows are named by array and number: in numba, making a view of a row takes longer than computing its distance.
"""

from __future__ import annotations

import numpy as np

from .native import native

MARGIN = 1.0001  # factor above the relative rounding error of a float32 sum
FAST = {"reassoc", "contract", "nsz"}
CHUNK = 64  # values that are compared with a threshold together


@native()
def copy(row: np.ndarray, out: np.ndarray) -> None:
    """Copy `row` to `out`. A loop, because numba takes seconds to compile `out[:] = row`."""
    for i in range(len(row)):
        out[i] = row[i]


@native()
def exact(a: np.ndarray, i: int, b: np.ndarray, j: int) -> float:
    """Squared distance of the float32 rows a[i] and b[j], summed in double precision and in a fixed order."""
    s0 = s1 = s2 = s3 = 0.0
    for k in range(0, a.shape[1], 4):
        d0, d1 = np.float64(a[i, k]) - b[j, k], np.float64(a[i, k + 1]) - b[j, k + 1]
        d2, d3 = np.float64(a[i, k + 2]) - b[j, k + 2], np.float64(a[i, k + 3]) - b[j, k + 3]
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    return (s0 + s1) + (s2 + s3)


@native(fastmath=FAST)
def roughly(a: np.ndarray, i: int, b: np.ndarray, j: int) -> float:
    """Squared distance of the float32 rows a[i] and b[j] in single precision, within a factor of MARGIN."""
    total = np.float32(0)
    for k in range(b.shape[1]):
        step = a[i, k] - b[j, k]
        total += step * step
    return total


@native(fastmath=FAST)
def length(a: np.ndarray, i: int) -> float:
    """Squared length of the float32 row a[i] in single precision, within a factor of MARGIN."""
    total = np.float32(0)
    for k in range(a.shape[1]):
        total += a[i, k] * a[i, k]
    return total


@native()
def pack(row: np.ndarray, centre: bool, out: np.ndarray) -> float:
    """Write a row in packed form to `out`, [width], and return |row|^2.

    The packed form holds the first width - 2 values of the row, the length of its other values, and 1; for a centre
    -|row|^2 / 2 instead of 1. The product of a packed row a and a packed centre b is at least
    (|a|^2 - |a - b|^2) / 2, so it gives a lower bound of their distance.
    """
    head, left, total = len(out) - 2, 0.0, 0.0
    for i in range(len(row)):
        square = np.float64(row[i]) * row[i]
        total += square
        if i < head:
            out[i] = row[i]
        else:
            left += square
    out[head] = np.sqrt(left)
    out[head + 1] = -total / 2 if centre else 1.0
    return total


@native()
def reaching(values: np.ndarray, enough: float, found: np.ndarray) -> int:
    """Write the places of the values that are at least `enough` to `found`; return how many they are.

    `found` needs room for one place more than there are values. Chunks without such a value are passed over by
    counting, for which numba uses SIMD. For a maximum it does so in some versions only.
    """
    count = 0
    for start in range(0, len(values), CHUNK):
        some, hits = values[start : start + CHUNK], 0
        for i in range(len(some)):
            hits += some[i] >= enough
        if hits:
            for i in range(len(some)):
                found[count] = start + i
                count += some[i] >= enough
    return count


@native()
def least_product(half: float, squared: float, width: int, reach: float) -> float:
    """Return a threshold for the packed product of a row and a centre.

    If the product is below it, the squared distance of the two is certainly not below `squared`.

    Args:
        half: half the squared length of the row.
        squared: squared distance of the row to its nearest centre so far.
        width: values of a packed row.
        reach: upper bound of the squared length of any row.
    """
    # largest rounding error of the product; its terms sum up to at most reach / 2 + |row| sqrt(reach)
    slack = (width + 8) * 2.0**-23 * (reach / 2 + np.sqrt(2 * half * reach))
    return np.float32(half - squared / 2 - slack)
