"""Interpretation of the command line: data sets in several folders, and sizes."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.readers import Category, find_categories
from datasets.readers.layouts import chosen


def categories_in(folders: Sequence[str], selection: str) -> list[Category]:
    """Return the selected categories of all folders; a name that several folders have is taken from the first of them.

    Raises:
        UserError: a folder has no category, or no folder has one of the names.
    """
    found: dict[str, Category] = {}
    for folder in folders:
        for category in find_categories(folder):
            found.setdefault(category.name, category)
    return chosen(found, selection, ", ".join(folders))


def shape(text: str) -> tuple[int, float]:
    """Parse PATCHES:PERCENT; ValueError for anything else."""
    rows, _, share = text.partition(":")
    return int(rows), float(share)
