"""Who of a job's processes does what: each its own categories, or all of them together one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Callable, TypeVar

from .group import Group, spread

Item = TypeVar("Item")


class Job:
    """The work on several categories, of which `sizes` says how much each is.

    With as many categories as processes, or more, each process fits some of them alone. Otherwise all fit one after
    the other together, and rank 0 writes the models.
    """

    def __init__(self, group: Group, sizes: Sequence[int]) -> None:
        self.group = group
        self.apart = 1 < group.size <= len(sizes)
        """Whether each process has categories of its own."""
        self.fitting = Group() if self.apart else group
        """Who fits a category together."""
        self._rank_of = spread(sizes, group.size)
        self.parts = len(sizes) if self.apart or group.size == 1 else 1
        """How many parts may fail alone; where several processes do one together, they fail together."""

    @property
    def writes(self) -> bool:
        """Whether this process writes the models that it fits."""
        return self.fitting.rank == 0

    @property
    def leads(self) -> bool:
        """Whether this process writes what is about all categories."""
        return self.group.rank == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Those of the categories that this process works on."""
        return [item for item, rank in zip(items, self._rank_of) if not self.apart or rank == self.group.rank]

    @contextmanager
    def held(self, lock: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
        """Hold what the whole job must hold once: rank 0 takes it before the others begin, until all are done."""
        if not self.leads:
            self.group.meet()
            yield
            self.group.meet()
            return
        with lock():
            self.group.meet()
            yield
            self.group.meet()
