"""A progress bar where somebody is watching."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int | None, what: str) -> Iterable[Item]:
    """Show a tqdm bar while `items` is consumed; none when stderr is no terminal or tqdm is not installed."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:  # infer.py runs on machines that carry the deployment packages only
        return items
    return tqdm(items, total=total, desc=what, unit="picture", disable=None, leave=False)
