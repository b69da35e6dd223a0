"""What the processes of a job say to each other; a process alone is a job of one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Callable, TypeVar

import numpy as np

Value = TypeVar("Value")


class Group:
    """The processes that do a piece of work together: here one, of rank 0. `Processes` has several.

    All ranks call the same methods in the same order. What they give and get is the same for any number of ranks, so
    that code has one way for one process and for many.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.collectives = 0
        """How often the ranks exchanged something."""
        self.bytes = 0
        """What this rank got from others."""
        self.seconds = 0.0
        """That exchanging took, waiting for others included."""

    # What a kind of group defines -----------------------------------------------------------------------------------

    def _gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Every rank's array, all of one shape and type, in the order of ranks."""
        return [array]

    def _broadcast(self, array: np.ndarray, source: int) -> np.ndarray:
        """The array of the rank `source`; the others give one of its shape and type."""
        return array

    def _scatter(self, arrays: Sequence[np.ndarray] | None, like: np.ndarray, source: int) -> np.ndarray:
        """Of the arrays of the rank `source`, one for each rank, this rank's, which has the shape of `like`."""
        return arrays[0]

    def meet(self) -> None:
        """Wait until all ranks are here, however long one takes that is alive."""

    # ----------------------------------------------------------------------------------------------------------------

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Every rank's array, all of one shape and type, in the order of ranks."""
        return self._counted(self._gather, array, others=(self.size - 1) * array.nbytes)

    def broadcast(self, array: np.ndarray, source: int = 0) -> np.ndarray:
        """The array of the rank `source`; the others give one of its shape and type."""
        return self._counted(self._broadcast, array, source, others=array.nbytes if self.rank != source else 0)

    def scatter(self, arrays: Sequence[np.ndarray] | None, like: np.ndarray, source: int) -> np.ndarray:
        """Of the arrays that the rank `source` gives, one for each rank, this rank's, of the shape of `like`."""
        return self._counted(self._scatter, arrays, like, source, others=like.nbytes if self.rank != source else 0)

    def joined(self, values: Sequence[Any]) -> list[Any]:
        """All ranks' values, plain json types, one after the other. Ranks may come here at very different times."""
        if self.size == 1:
            return list(values)
        self.meet()
        data = np.frombuffer(json.dumps(list(values)).encode(), np.uint8)
        found = self.concatenated(data, split=True)
        return [value for part in found for value in json.loads(part.tobytes())]

    def concatenated(self, rows: np.ndarray, split: bool = False) -> np.ndarray | list[np.ndarray]:
        """All ranks' rows [n, ...], one after the other, where each rank may have another n; with `split` a list."""
        if self.size == 1:
            return [rows] if split else rows
        counts = [int(count[0]) for count in self.gather(np.array([len(rows)], np.int64))]
        padded = np.zeros((max(counts), *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        parts = [part[:count] for part, count in zip(self.gather(padded), counts)] if max(counts) else [rows]
        return parts if split else np.concatenate(parts)

    def chained(self, value: np.ndarray, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What `step` makes of `value` on rank 0, then of that on rank 1, and so on: sums keep their order so."""
        for rank in range(self.size):
            value = self.broadcast(step(value) if rank == self.rank else value, rank)
        return value

    def shard(self, count: int, unit: int) -> range:
        """This rank's share of so many things in a row; all shares but the last are whole units of them."""
        units = -(-count // unit)
        start, stop = (min(units * rank // self.size * unit, count) for rank in (self.rank, self.rank + 1))
        return range(start, stop)

    def told(self) -> str:
        """One line about what was exchanged so far."""
        return f"rank {self.rank} of {self.size}: {self.collectives} collectives, {self.bytes / 1e6:.1f} MB from others"

    def _counted(self, exchange: Callable[..., Value], *arguments: Any, others: int) -> Value:
        begin = time.perf_counter()
        found = exchange(*arguments)
        self.seconds += time.perf_counter() - begin
        self.collectives += 1
        self.bytes += others
        return found


def spread(sizes: Sequence[int], ranks: int) -> list[int]:
    """Which rank does each of several pieces of work of these sizes: the largest first, each to who has least to do."""
    load, found = [0] * ranks, [0] * len(sizes)
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        found[number] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[found[number]] += sizes[number]
    return found
