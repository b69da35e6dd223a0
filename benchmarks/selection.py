"""Interpretation of the command line: data sets in several folders, and sizes."""

from __future__ import annotations

from pathlib import Path

from datasets.readers import Category, select_categories


def categories_in(folders: list[str], selection: str) -> list[Category]:
    """Return the selected categories; with several folders, each name is taken from the first folder that has it."""
    if len(folders) == 1 or "," not in selection:
        return [category for folder in folders for category in select_categories(folder, selection)]
    found = []
    for name in selection.split(","):
        places = [folder for folder in folders if (Path(folder) / name.strip()).is_dir()]
        found += select_categories(places[0] if places else folders[0], name)
    return found


def shape(text: str) -> tuple[int, float]:
    """Parse PATCHES:PERCENT; ValueError for anything else."""
    rows, _, share = text.partition(":")
    return int(rows), float(share)
