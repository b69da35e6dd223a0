"""The cost model: what fits and predictions take, from a few measured runs, and what a plant needs then.

Seconds are of one processor core: whatever `train.py` and `infer.py` compute, on one thread each, from their start to
their end. A category of `n` pictures takes `category + picture * n + square * n * n`: reading and features grow with
the pictures, and a coreset of a fixed share, like the search in it, with the pictures times the rows that are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

DAY = 24 * 3600.0
BUSY = 0.7
"""The share of its time that a core computes for a plan; the rest is for peaks and restarts."""


class Run(NamedTuple):
    """One measured process."""

    pictures: int
    """Of each category."""
    categories: int
    cpu: float
    """Seconds of processor time, of the process and those that it started."""
    wall: float
    """Seconds by the clock."""
    peak_mb: float
    """The largest resident size."""


@dataclass(frozen=True)
class Fit:
    """What fitting takes, in core seconds."""

    process: float
    """Python, Paddle, the weights."""
    category: float
    picture: float
    square: float
    launch: float = 0.0
    """Seconds by the clock that several processes start later than one."""
    crowded: float = 1.0
    """How many times as long a core takes while the others compute too: they share caches and memory."""

    @classmethod
    def through(cls, runs: Sequence[Run], launched: Sequence[Run] = ()) -> Fit:
        """The costs, none below zero, that come nearest to the runs by relative error.

        `launched` are runs of two processes with a category each, of different numbers of pictures.
        """
        cpu = [run.cpu for run in runs]
        terms = [[1, r.categories, r.categories * r.pictures, r.categories * r.pictures**2] for r in runs]
        fit = cls(*_nearest(terms, cpu))
        if not launched:
            return fit
        shares = [[1, fit.share(run.pictures, run.categories, 2)] for run in launched]
        launch, crowded = _nearest(shares, [run.wall - fit.process for run in launched])
        return replace(fit, launch=launch, crowded=crowded)

    def seconds(self, pictures: int, categories: int = 1) -> float:
        """Core seconds of one process that fits categories of so many pictures."""
        return self.process + categories * (self.category + self.picture * pictures + self.square * pictures**2)

    def share(self, pictures: int, categories: int, processes: int) -> float:
        """Core seconds of each of so many processes, without its start."""
        return (self.seconds(pictures, categories) - self.process) / processes

    def wall(self, pictures: int, categories: int, processes: int) -> float:
        """Seconds by the clock of processes of one core each, which share the work evenly."""
        if processes == 1:
            return self.seconds(pictures, categories)
        return self.process + self.launch + self.crowded * self.share(pictures, categories, processes)


def _nearest(terms: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Factors of the terms, none below zero, whose sums come nearest to the values by relative error."""
    rows = np.array(terms, float) / np.array(values)[:, None]
    scale = np.linalg.norm(rows, axis=0)
    return (nnls(rows / scale, np.ones(len(rows)))[0] / scale).tolist()


@dataclass(frozen=True)
class Scoring:
    """What `infer.py` takes."""

    start: float
    """Core seconds until the first picture: Python, Paddle, and the program."""
    picture: float
    """Core seconds per picture, from the file on, with a table alone."""
    heat_map: float
    """Core seconds more with a heat map."""
    peak_mb: float
    """Of one process."""

    @classmethod
    def through(cls, few: Run, many: Run, drawn: Run) -> Scoring:
        """Costs from two numbers of pictures, and from the larger one with heat maps."""
        picture = (many.cpu - few.cpu) / (many.pictures - few.pictures)
        start = few.cpu - picture * few.pictures
        return cls(start, picture, (drawn.cpu - many.cpu) / many.pictures, drawn.peak_mb)


@dataclass(frozen=True)
class Megabytes:
    """On disk."""

    picture: float
    heat_map: float
    model: float
    """A fitted model."""
    export: float
    """An export: program, parameters and statistics."""


@dataclass(frozen=True)
class Need:
    """What a plan needs."""

    fit_hours: float
    """Core hours until all categories are fitted."""
    models_gb: float
    exports_gb: float
    cores: float
    """That score, BUSY of the time."""
    read_mb: float
    """Megabytes of pictures per second."""
    written_gb: float
    """Gigabytes of heat maps a day, if every picture gets one."""
    memory_gb: float
    """Of a process on each of these cores, with one category loaded."""


def need(fit: Fit, scoring: Scoring, sizes: Megabytes, categories: int, pictures: int, per_day: float) -> Need:
    """What `categories` of so many training `pictures` need, of which `per_day` pictures come to be scored."""
    rate = per_day / DAY
    cores = rate * scoring.picture / BUSY
    return Need(
        fit.seconds(pictures, categories) / 3600,
        categories * sizes.model / 1e3,
        categories * sizes.export / 1e3,
        cores,
        rate * sizes.picture,
        per_day * sizes.heat_map / 1e3,
        np.ceil(cores) * scoring.peak_mb / 1e3,
    )
