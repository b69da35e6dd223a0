"""A progress bar where somebody is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], total: int | None, what: str, unit: str = "picture", delay: float = 0
) -> Iterable[Item]:
    """Show a tqdm bar while `items` is consumed; none when stderr is no terminal or tqdm is not installed.

    `delay` is for stages that are often short: the bar appears after so many seconds.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return items
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:  # infer.py runs on machines that carry the deployment packages only
        return items
    return tqdm(items, total=total, desc=what, unit=unit, delay=delay, leave=False)


class TimedLog:
    """Prints lines with the seconds since its creation."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, text: str) -> None:
        """Print one line."""
        print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", flush=True)
