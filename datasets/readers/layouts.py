"""Finding the layout of a folder, and its categories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.errors import UserError

from .category import Category, names_in
from .kolektor import Kolektor
from .loco import LOCO
from .mvtec import GROUPS, MVTec
from .mvtec_ad2 import MVTecAD2
from .plain import Plain
from .table import TableCategory
from .visa import VisA

LAYOUTS: dict[str, type[Category]] = {
    "table": TableCategory,
    "visa": VisA,
    "loco": LOCO,
    "mvtec_ad2": MVTecAD2,
    "mvtec": MVTec,
    "btad": MVTec,
    "mpdd": MVTec,
    "kolektor": Kolektor,
    "plain": Plain,
}
"""Layouts by their names in --layout, in the order in which they are tried."""


def find_categories(data_path: str | Path, layout: str | None = None) -> list[Category]:
    """Return all categories of `data_path` in `layout`; if not given, in the first of LAYOUTS that has any there.

    Raises:
        UserError: `data_path` does not exist, or has no category.
    """
    place = Path(data_path)
    if not place.exists():
        raise UserError(
            f"--data_path {place}: no such folder; give the one that holds the categories "
            "(train.py --download fetches those of MVTec AD)"
        )
    if place.is_file() and layout is None:
        layout = "table"
    for name, kind in LAYOUTS.items():
        found = kind.find(place) if layout in (None, name) and (place.is_dir() or kind is TableCategory) else []
        if found:
            return found
    raise UserError(f"--data_path {place}: {_why_nothing(place, layout)}")


def layout_of(category: Category) -> str:
    """Return the name of a category's layout, the first one if it has several."""
    return next(name for name, kind in LAYOUTS.items() if type(category) is kind)


def _why_nothing(place: Path, layout: str | None) -> str:
    if place.is_file() and layout != "table":
        return f"is a file, and the layout {layout} is a folder: give one, or leave out --layout"
    if place.is_file():
        return "is a file, and no table: give a folder, or a .csv or .jsonl with the columns path and label"
    if layout is not None:
        return f"no category in it in the layout {layout}; without --layout it is found by looking"
    return "no category in it: no folder with train/good, no folder good, and no pictures; see docs/data.md"


def select_categories(data_path: str | Path, selection: str, layout: str | None = None) -> list[Category]:
    """Return the categories of `data_path` that `selection` names; UserError if one is missing.

    `selection` is `NAME[,NAME...]`, `all`, or `textures` or `objects` for those of MVTec AD that are there.
    """
    return chosen({category.name: category for category in find_categories(data_path, layout)}, selection, data_path)


def chosen(found: Mapping[str, Category], selection: str, place: object) -> list[Category]:
    """Return the categories that `selection` names, as in `select_categories`, of those `found` by name at `place`."""
    groups = {"all": tuple(found), **GROUPS}
    if selection in groups:
        there = [found[name] for name in groups[selection] if name in found]
        if not there:
            raise UserError(f"--category {selection}: none of them in {place}; it holds {', '.join(found)}")
        return there
    names = names_in(selection)
    for name in names:
        if name not in found:
            raise UserError(f"--category {name}: no such category in {place}; it holds {', '.join(found)}")
    return [found[name] for name in names]
