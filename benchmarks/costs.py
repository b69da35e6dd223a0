"""The cost model: times of fits and predictions from a few measured runs, and the resources that a plant needs.

Seconds are processor time of one core, for everything that `train.py` and `infer.py` compute on one thread each, from
start to end. A category of `n` pictures takes `category + picture * n + square * n * n`. The time of reading and
features grows with the pictures; that of a coreset with a fixed share, and of the search in it, grows with the pictures
times the chosen rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

DAY = 24 * 3600.0
BUSY = 0.7
"""Share of its time that a core works in a plan; the rest is reserved for peaks and restarts."""


class Run(NamedTuple):
    """One measured process."""

    pictures: int
    """Pictures of each category."""
    categories: int
    cpu: float
    """Seconds of processor time of the process and its child processes."""
    wall: float
    """Elapsed seconds."""
    peak_mb: float
    """Largest resident size, in MB."""


@dataclass(frozen=True)
class Fit:
    """Costs of fitting, in core seconds."""

    process: float
    """Start of a process: Python, Paddle, the weights."""
    category: float
    picture: float
    square: float
    launch: float = 0.0
    """Elapsed seconds by which several processes start later than one."""
    crowded: float = 1.0
    """Factor by which a core is slower while other cores work too, since they share caches and memory."""

    @classmethod
    def through(cls, runs: Sequence[Run], launched: Sequence[Run] = ()) -> Fit:
        """Return the costs, none below zero, that fit the runs with the smallest relative errors.

        `launched` are runs of two processes with one category each, with different numbers of pictures.
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
        """Return core seconds of one process that fits `categories` with `pictures` pictures each."""
        return self.process + categories * (self.category + self.picture * pictures + self.square * pictures**2)

    def share(self, pictures: int, categories: int, processes: int) -> float:
        """Return core seconds of each of several processes that share the work, without its start."""
        return (self.seconds(pictures, categories) - self.process) / processes

    def wall(self, pictures: int, categories: int, processes: int) -> float:
        """Return elapsed seconds of processes with one core each that share the work evenly."""
        if processes == 1:
            return self.seconds(pictures, categories)
        return self.process + self.launch + self.crowded * self.share(pictures, categories, processes)


def _nearest(terms: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Return the factors of the terms, none below zero, whose sums fit the values with the smallest relative errors."""
    rows = np.array(terms, float) / np.array(values)[:, None]
    scale = np.linalg.norm(rows, axis=0)
    return (nnls(rows / scale, np.ones(len(rows)))[0] / scale).tolist()


@dataclass(frozen=True)
class Scoring:
    """Costs of `infer.py`."""

    start: float
    """Core seconds until the first picture: Python, Paddle, and the program."""
    picture: float
    """Core seconds per picture, with reading the file, if only a table is written."""
    heat_map: float
    """Additional core seconds per picture for a heat map."""
    peak_mb: float
    """Largest resident size of one process, in MB."""

    @classmethod
    def through(cls, few: Run, many: Run, drawn: Run) -> Scoring:
        """Return the costs from runs on two numbers of pictures, and on the larger number with heat maps."""
        picture = (many.cpu - few.cpu) / (many.pictures - few.pictures)
        start = few.cpu - picture * few.pictures
        return cls(start, picture, (drawn.cpu - many.cpu) / many.pictures, drawn.peak_mb)


@dataclass(frozen=True)
class Megabytes:
    """Sizes on disk, in MB."""

    picture: float
    heat_map: float
    model: float
    """A fitted model."""
    export: float
    """An export: program, parameters and statistics."""


@dataclass(frozen=True)
class Need:
    """Resources that a plan needs."""

    fit_hours: float
    """Core hours until all categories are fitted."""
    models_gb: float
    exports_gb: float
    cores: float
    """Cores for scoring, each busy for the share BUSY of the time."""
    read_mb: float
    """Megabytes of pictures per second."""
    written_gb: float
    """Gigabytes of heat maps a day, if every picture gets one."""
    memory_gb: float
    """Memory of a process on each of these cores, with one category loaded."""


def need(fit: Fit, scoring: Scoring, sizes: Megabytes, categories: int, pictures: int, per_day: float) -> Need:
    """Return the needs for `categories` with `pictures` to fit on in each, and `per_day` pictures to score per day."""
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
