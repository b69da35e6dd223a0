"""A heap of the rows of the coreset's choice by their bounds, in two arrays; ties go to the lowest row number."""

from __future__ import annotations

import numpy as np

from .native import native


@native()
def before(squared: float, row: int, other_squared: float, other_row: int) -> bool:
    """Whether the first row is chosen rather than the other one."""
    return squared > other_squared or (squared == other_squared and row < other_row)


@native()
def sink(bound: np.ndarray, waiting: np.ndarray, size: int, place: int) -> None:
    """Move the entry at `place` down to where it belongs in the heap."""
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
    """Put a row into the heap: up from `place`, the first free one."""
    while place > 0:
        parent = (place - 1) // 2
        if not before(squared, row, bound[parent], waiting[parent]):
            break
        bound[place], waiting[place] = bound[parent], waiting[parent]
        place = parent
    bound[place], waiting[place] = squared, row
