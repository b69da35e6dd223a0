"""Division of the categories among a job's processes: each its own categories, or all processes together on each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Callable, TypeVar

from .group import Group, spread

Item = TypeVar("Item")


class Job:
    """The work on several categories; `sizes` is the amount of work of each.

    If there are at least as many categories as processes, each process fits some of them alone. Otherwise all processes
    fit one category after the other together, and rank 0 writes the models.
    """

    def __init__(self, group: Group, sizes: Sequence[int]) -> None:
        self.group = group
        self.apart = 1 < group.size <= len(sizes)
        """Whether each process has categories of its own."""
        self.fitting = Group() if self.apart else group
        """The processes that fit a category together."""
        self._rank_of = spread(sizes, group.size)

    def parts(self, seeds: int) -> int:
        """Number of parts of the work, with `seeds` seeds, that may fail while the others continue.

        1 if several processes fit a category together: then a failure ends all.
        """
        return seeds * len(self._rank_of) if self.fitting.size == 1 else 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the models that it fits."""
        return self.fitting.rank == 0

    @property
    def leads(self) -> bool:
        """Whether this process writes the files about all categories."""
        return self.group.rank == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Return those of `items`, one for each category, that this process works on."""
        return [item for item, rank in zip(items, self._rank_of) if not self.apart or rank == self.group.rank]

    @contextmanager
    def held(self, lock: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
        """Hold a lock for the whole job: rank 0 takes it before any rank begins, and releases it when all are done."""
        if not self.leads:
            self.group.meet()
            yield
            self.group.meet()
            return
        with lock():
            self.group.meet()
            yield
            self.group.meet()
