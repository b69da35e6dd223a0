"""The models of one process: each is loaded when it is first asked, and the one asked longest ago goes for it."""

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
    """That a model was loaded."""

    seconds: float
    dropped: list[str]
    """The models that went for it."""


class Shelf:
    """At most `most` loaded models; those whose exports have the same program share it.

    Args:
        jobs: by the models' names.
        most: 1 or more.
    """

    def __init__(self, jobs: Mapping[str, Job], most: int) -> None:
        self._jobs, self._most = jobs, most
        self._loaded: OrderedDict[str, Scorer] = OrderedDict()
        self._programs: WeakValueDictionary[tuple[str, str], Program] = WeakValueDictionary()

    def take(self, name: str) -> tuple[Scorer, Load | None]:
        """The model; and its loading, if it was not loaded.

        Raises:
            UserError: it cannot be loaded.
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
