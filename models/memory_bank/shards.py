"""Rows of which every process holds some, in the order of ranks: cut elsewhere, and picked by number."""

from __future__ import annotations

from typing import Callable

import numpy as np

from ..distributed.group import Group


def starts(rows: int, group: Group) -> list[int]:
    """The number of each process's first row among all, and after the last one how many there are."""
    return np.cumsum([0, *(int(held[0]) for held in group.gather(np.array([rows])))]).tolist()


def aligned(held: np.ndarray, filled: int, unit: int, group: Group) -> np.ndarray:
    """Cut the rows again, so that every process begins at a multiple of `unit` rows; return this one's.

    So sums and products over blocks of `unit` rows are the same as in one process. `held` has the rows of this process,
    `filled` of them, and room for `unit` more.
    """
    if group.size == 1:
        return held[:filled]
    first = starts(filled, group)
    start, end, total = first[group.rank], first[group.rank + 1], first[-1]
    begin = -(-start // unit) * unit
    given = min(begin, end) - start  # to the process that has the beginning of their block
    tail = np.concatenate(group.concatenated(held[:given], split=True)[group.rank + 1 :] or [held[:0]])
    if begin >= end:
        return held[:0]
    needed = min(-(-end // unit) * unit, total) - end
    held[filled : filled + needed] = tail[:needed]
    return held[given : filled + needed]


def picked(numbers: np.ndarray, first: list[int], read: Callable[[np.ndarray], np.ndarray], group: Group) -> np.ndarray:
    """The rows of these numbers among all, in their order; `read` gives some by their numbers among this process's.

    `first` is what `starts` gives.
    """
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    here = ascending[(ascending >= first[group.rank]) & (ascending < first[group.rank + 1])]
    rows = group.concatenated(read(here - first[group.rank]))
    found = np.empty_like(rows)
    found[order] = rows
    return found
