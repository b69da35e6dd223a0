"""Rows that are divided among processes in the order of ranks: divide them at other places, read rows by number."""

from __future__ import annotations

from typing import Callable

import numpy as np

from ..distributed.group import Group


def starts(rows: int, group: Group) -> list[int]:
    """Number of each process's first row among the rows of all processes, and at the end the number of all rows."""
    return np.cumsum([0, *(int(held[0]) for held in group.gather(np.array([rows])))]).tolist()


def aligned(held: np.ndarray, filled: int, unit: int, group: Group) -> np.ndarray:
    """Move rows between processes, so that every process begins at a multiple of `unit` rows; return this process's.

    Then sums and products over blocks of `unit` rows are the same as in one process. The first `filled` rows of `held`
    are the rows of this process; `held` must have room for `unit` more.
    """
    if group.size == 1:
        return held[:filled]
    first = starts(filled, group)
    start, end, total = first[group.rank], first[group.rank + 1], first[-1]
    begin = -(-start // unit) * unit
    given = min(begin, end) - start  # rows that go to the process where their block begins
    tail = np.concatenate(group.concatenated(held[:given], split=True)[group.rank + 1 :] or [held[:0]])
    if begin >= end:
        return held[:0]
    needed = min(-(-end // unit) * unit, total) - end
    held[filled : filled + needed] = tail[:needed]
    return held[given : filled + needed]


def picked(numbers: np.ndarray, first: list[int], read: Callable[[np.ndarray], np.ndarray], group: Group) -> np.ndarray:
    """Rows of all processes by their `numbers`, in the order of `numbers`; the same in every process.

    `read` returns rows of this process, by their numbers in this process. `first` is the result of `starts`.
    """
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    here = ascending[(ascending >= first[group.rank]) & (ascending < first[group.rank + 1])]
    rows = group.concatenated(read(here - first[group.rank]))
    found = np.empty_like(rows)
    found[order] = rows
    return found
