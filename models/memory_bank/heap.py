"""A heap of rows ordered by their bounds, for greedy k-center, in two arrays: `bound`, and `waiting` with the rows.

The largest bound is on top; among equal bounds the lowest row number.
"""

from __future__ import annotations

import numpy as np

from .native import native


@native()
def before(squared: float, row: int, other_squared: float, other_row: int) -> bool:
    """Whether the first row comes before the other one: its bound is larger, or equal and its number lower."""
    return squared > other_squared or (squared == other_squared and row < other_row)


@native()
def sink(bound: np.ndarray, waiting: np.ndarray, size: int, place: int) -> None:
    """Move the entry at `place` down to its place in a heap of `size` rows."""
    squared, row = bound[place], waiting[place]
    child = 2 * place + 1
    while child < size:
        if child + 1 < size and before(bound[child + 1], waiting[child + 1], bound[child], waiting[child]):
            child += 1
        if not before(bound[child], waiting[child], squared, row):
            break
        bound[place], waiting[place] = bound[child], waiting[child]
        place, child = child, 2 * child + 1
    bound[place], waiting[place] = squared, row


@native()
def rise(bound: np.ndarray, waiting: np.ndarray, place: int, squared: float, row: int) -> None:
    """Insert a row into the heap: it moves up from `place`, the first free place."""
    while place > 0:
        parent = (place - 1) // 2
        if not before(squared, row, bound[parent], waiting[parent]):
            break
        bound[place], waiting[place] = bound[parent], waiting[parent]
        place = parent
    bound[place], waiting[place] = squared, row
