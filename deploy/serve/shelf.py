"""The models of one process: each is loaded when it is first used, and the least recently used one is dropped."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakValueDictionary

from ..runtime.program import Program, release_memory
from .scorer import Scorer
from .settings import Job


class Load(NamedTuple):
    """Record of the loading of a model."""

    seconds: float
    dropped: list[str]
    """Names of the models that were dropped for it."""


class Shelf:
    """Holds at most `most` loaded models; models whose exports have the same program share it.

    Args:
        jobs: the jobs by their models' names.
        most: at least 1.
    """

    def __init__(self, jobs: Mapping[str, Job], most: int) -> None:
        self._jobs, self._most = jobs, most
        self._loaded: OrderedDict[str, Scorer] = OrderedDict()
        self._programs: WeakValueDictionary[tuple[str, str], Program] = WeakValueDictionary()

    def take(self, name: str) -> tuple[Scorer, Load | None]:
        """Return the model of this name; if it had to be loaded, with the record of its loading, else with None.

        Raises:
            UserError: the model cannot be loaded.
        """
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return self._loaded[name], None
        begin, programs = time.perf_counter(), len(self._programs)
        self._loaded[name] = Scorer(self._jobs[name], self._programs)
        dropped = [self._loaded.popitem(last=False)[0] for _ in range(len(self._loaded) - self._most)]
        if len(self._programs) < programs:
            release_memory()
        return self._loaded[name], Load(time.perf_counter() - begin, dropped)
