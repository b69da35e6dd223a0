"""Squared distances of float32 rows, exact and approximate, and products of packed rows that give lower bounds."""

from __future__ import annotations

import numpy as np

from .native import native

MARGIN = 1.0001  # factor above the relative rounding error of a float32 sum
FAST = {"reassoc", "contract", "nsz"}


@native()
def copy(row: np.ndarray, out: np.ndarray) -> None:
    """Copy `row` to `out`. A loop, because numba takes seconds to compile `out[:] = row`."""
    for i in range(len(row)):
        out[i] = row[i]


@native()
def exact(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of two float32 rows, summed in double precision and in a fixed order."""
    s0 = s1 = s2 = s3 = 0.0
    for i in range(0, a.shape[0], 4):
        d0, d1 = np.float64(a[i]) - b[i], np.float64(a[i + 1]) - b[i + 1]
        d2, d3 = np.float64(a[i + 2]) - b[i + 2], np.float64(a[i + 3]) - b[i + 3]
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    return (s0 + s1) + (s2 + s3)


@native(fastmath=FAST)
def roughly(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of two float32 rows in single precision, within a factor of MARGIN."""
    total = np.float32(0)
    for i in range(len(b)):
        step = a[i] - b[i]
        total += step * step
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


@native(fastmath=FAST)
def largest(products: np.ndarray) -> float:
    """Return the largest value; written so that the compiler uses SIMD."""
    found = np.float32(-np.inf)
    for i in range(len(products)):
        found = max(found, products[i])
    return found


@native(fastmath=FAST)
def any_reaches(products: np.ndarray, enough: np.ndarray) -> bool:
    """Return whether any product reaches its own threshold in `enough`; written so that the compiler uses SIMD."""
    found = np.float32(-np.inf)
    for i in range(len(products)):
        found = max(found, products[i] - enough[i])
    return found >= 0


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
