"""Ranks as threads of one process, which exchange arrays in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np

from models.distributed.group import Group


class Threads(Group):
    """One of several ranks that are threads; a rank that fails breaks the others' waiting."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, table: list[Any]) -> None:
        super().__init__(rank, size)
        self._barrier, self._table = barrier, table

    def meet(self) -> None:
        self._barrier.wait(60)

    def _exchange(self, value: Any) -> list[Any]:
        self._table[self.rank] = value
        self._barrier.wait(60)
        found = list(self._table)
        self._barrier.wait(60)
        return found

    def _gather(self, array: np.ndarray) -> list[np.ndarray]:
        found = self._exchange(array.copy())
        assert len({(part.shape, part.dtype) for part in found}) == 1, "collectives need arrays of one shape"
        return found

    def _broadcast(self, array: np.ndarray, source: int) -> np.ndarray:
        return self._gather(array)[source]

    def _scatter(self, arrays: Sequence[np.ndarray] | None, like: np.ndarray, source: int) -> np.ndarray:
        found = self._exchange(arrays)[source][self.rank]
        assert found.shape == like.shape and found.dtype == like.dtype
        return found.copy()


def together(size: int, work: Callable[[Group], Any]) -> list[Any]:
    """What `work` returns on each of `size` ranks."""
    barrier, table = threading.Barrier(size), [None] * size

    def one(rank: int) -> Any:
        try:
            return work(Threads(rank, size, barrier, table))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
