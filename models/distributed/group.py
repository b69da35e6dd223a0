"""Data exchange between the processes of a job; a single process is a job with one rank."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Callable, TypeVar

import numpy as np

Value = TypeVar("Value")


class Group:
    """The processes that work together. This class is for one process, of rank 0; `Processes` is for several.

    All ranks must call the same methods in the same order. Arguments and results have the same form for any number of
    ranks, so that code need not distinguish one process from several.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.collectives = 0
        """Number of exchanges between the ranks."""
        self.bytes = 0
        """Bytes that this rank received from others."""
        self.seconds = 0.0
        """Time that the exchanges took, with the time of waiting for others."""

    # What a kind of group defines -----------------------------------------------------------------------------------

    def _gather(self, array: np.ndarray) -> list[np.ndarray]:
        """What `gather` does, without counting."""
        return [array]

    def _broadcast(self, array: np.ndarray, source: int) -> np.ndarray:
        """What `broadcast` does, without counting."""
        return array

    def _scatter(self, arrays: Sequence[np.ndarray] | None, like: np.ndarray, source: int) -> np.ndarray:
        """What `scatter` does, without counting."""
        return arrays[0]

    def meet(self) -> None:
        """Barrier: wait until all ranks have called this, without a time limit while all are alive."""

    # ----------------------------------------------------------------------------------------------------------------

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Return the arrays of all ranks, in the order of ranks; all must have the same shape and type."""
        return self._counted(self._gather, array, others=(self.size - 1) * array.nbytes)

    def broadcast(self, array: np.ndarray, source: int = 0) -> np.ndarray:
        """Return the array of rank `source`; the other ranks pass an array of the same shape and type."""
        return self._counted(self._broadcast, array, source, others=array.nbytes if self.rank != source else 0)

    def scatter(self, arrays: Sequence[np.ndarray] | None, like: np.ndarray, source: int) -> np.ndarray:
        """Return this rank's array; rank `source` passes one for each rank, all of the shape and type of `like`."""
        return self._counted(self._scatter, arrays, like, source, others=like.nbytes if self.rank != source else 0)

    def joined(self, values: Sequence[Any]) -> list[Any]:
        """Return the values of all ranks, plain json types, in the order of ranks.

        Ranks may call this at very different times: it waits with `meet`.
        """
        if self.size == 1:
            return list(values)
        self.meet()
        data = np.frombuffer(json.dumps(list(values)).encode(), np.uint8)
        found = self.concatenated(data, split=True)
        return [value for part in found for value in json.loads(part.tobytes())]

    def concatenated(self, rows: np.ndarray, split: bool = False) -> np.ndarray | list[np.ndarray]:
        """Return the rows [n, ...] of all ranks, in the order of ranks; n may differ. With `split`: a list by rank."""
        if self.size == 1:
            return [rows] if split else rows
        counts = [int(count[0]) for count in self.gather(np.array([len(rows)], np.int64))]
        padded = np.zeros((max(counts), *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        parts = [part[:count] for part, count in zip(self.gather(padded), counts)] if max(counts) else [rows]
        return parts if split else np.concatenate(parts)

    def chained(self, value: np.ndarray, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Apply `step` to `value` on rank 0, to the result on rank 1, and so on; return the last result on all ranks.

        So a sum is added up in the same order as in one process.
        """
        for rank in range(self.size):
            value = self.broadcast(step(value) if rank == self.rank else value, rank)
        return value

    def shard(self, count: int, unit: int) -> range:
        """Return this rank's share of `count` things; every share but the last is a multiple of `unit`."""
        units = -(-count // unit)
        start, stop = (min(units * rank // self.size * unit, count) for rank in (self.rank, self.rank + 1))
        return range(start, stop)

    def told(self) -> str:
        """Return one line about the exchanges so far."""
        return f"rank {self.rank} of {self.size}: {self.collectives} collectives, {self.bytes / 1e6:.1f} MB from others"

    def _counted(self, exchange: Callable[..., Value], *arguments: Any, others: int) -> Value:
        begin = time.perf_counter()
        found = exchange(*arguments)
        self.seconds += time.perf_counter() - begin
        self.collectives += 1
        self.bytes += others
        return found


def spread(sizes: Sequence[int], ranks: int) -> list[int]:
    """Assign pieces of work of these sizes to ranks; return the rank of each piece.

    The largest pieces are assigned first, each to the rank with the least work so far.
    """
    load, found = [0] * ranks, [0] * len(sizes)
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        found[number] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[found[number]] += sizes[number]
    return found
