"""Progress bars, which are shown on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], total: int | None, what: str, unit: str = "picture", delay: float = 0
) -> Iterable[Item]:
    """Show a tqdm bar while `items` is consumed; none if stderr is not a terminal or tqdm is not installed.

    The bar appears after `delay` seconds, which is useful for stages that are often short.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return items
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:  # infer.py may run on machines that have the deployment packages only
        return items
    return tqdm(items, total=total, desc=what, unit=unit, delay=delay, leave=False)


class TimedLog:
    """Prints lines with the seconds since its creation."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, text: str) -> None:
        """Print one line."""
        print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", flush=True)
