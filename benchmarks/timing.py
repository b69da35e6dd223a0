"""Timing several ways to do the same in turns, so that all have the same conditions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable

import numpy as np

REST = 0.25
"""Seconds between two turns, since Paddle's OpenMP threads spin for 0.2 s after their last work and would slow others.
"""


def in_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, calls: int = 1, warm: bool = True
) -> dict[str, list[float]]:
    """Measure seconds per call in the order A B C A B C ...; return `rounds` values for each contestant.

    A value is the median of `calls` consecutive calls. With `warm`, a call that is not counted goes before, so that
    code and data are in the cache, as in continuous use.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            time.sleep(REST)
            if warm:
                call()
            times[name].append(float(np.median([_seconds(call) for _ in range(calls)])))
    return times


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return float(median), float(lower), float(upper)
