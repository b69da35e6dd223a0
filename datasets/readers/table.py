"""A table of pictures, .csv or .jsonl, with the columns path and label, and optionally mask, split and category.

Paths are relative to the table's folder. `label` is good (ok, normal, 0), defective (1), or a kind of defect; `split`
is train or test. If it is missing or empty, every fifth good picture, in the table's order, is for testing, and so are
all defective pictures.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import UserError
from deploy.storage.files import plain_name

from .category import GOOD, Category, LabelledPicture, divide, is_good

SUFFIXES = (".csv", ".jsonl")
DEFECTIVE = "defective"
SPLITS = ("train", "test", "")


@dataclass(frozen=True)
class TableCategory(Category):
    """A category made of rows of a table."""

    fitted: tuple[Path, ...] = field(default=(), repr=False)
    """Good pictures to fit on, in the table's order."""
    tested: tuple[LabelledPicture, ...] = field(default=(), repr=False)
    """Pictures to test on."""

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Return every category in the table; without the column `category`, a single one named after the table."""
        if data_path.suffix.lower() not in SUFFIXES or not data_path.is_file():
            return []
        rows = read_rows(data_path, ("path", "label"))
        return cls.of_rows(
            [{**row, "category": row.get("category") or data_path.stem} for row in rows], data_path.parent
        )

    @classmethod
    def of_rows(cls, rows: Iterable[dict[str, str]], folder: Path) -> list[Category]:
        """Return every category of these rows; the value `row` of each is its position in the table, for messages.

        UserError for a category that is not a plain name, because results are written to a folder of this name.
        """
        grouped: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            grouped.setdefault(plain_name(row["category"], f"{row['row']}: category"), []).append(row)
        return [_category(cls, name, found, folder) for name, found in sorted(grouped.items())]

    def train_pictures(self) -> list[Path]:
        """Return the good pictures to fit on."""
        if not self.fitted:
            raise UserError(f"category {self.name} has no good picture to fit on")
        return list(self.fitted)

    def test_pictures(self) -> list[LabelledPicture]:
        """Return the pictures to test on."""
        if not self.tested:
            raise UserError(f"category {self.name} has no picture to test on; train without --eval")
        return sorted(self.tested, key=lambda picture: (picture.defect, picture.path))


def _category(kind: type[TableCategory], name: str, rows: list[dict[str, str]], folder: Path) -> TableCategory:
    fitted, tested, either = [], [], []
    for row in rows:
        path, defect, split = folder / row["path"], defect_of(row), (row.get("split") or "").strip().lower()
        if not path.is_file():
            raise UserError(f"{row['row']}: no picture at {path}")
        if split not in SPLITS:
            raise UserError(f"{row['row']}: split {split!r} is neither train nor test")
        if defect != GOOD:
            if split == "train":
                raise UserError(f"{row['row']}: a defective picture in split train; fitting takes good ones alone")
            masks = (folder / row["mask"],) if row.get("mask") else ()
            if masks and not masks[0].is_file():
                raise UserError(f"{row['row']}: no mask at {masks[0]}")
            tested.append(LabelledPicture(path, defect, masks))
        elif split == "test":
            tested.append(LabelledPicture(path, GOOD))
        else:
            (fitted if split == "train" else either).append(path)
    more, held_out = divide(either) if tested else (either, [])
    tested += [LabelledPicture(path, GOOD) for path in held_out]
    return kind(name, folder, tuple(fitted + more), tuple(tested))


def defect_of(row: dict[str, str]) -> str:
    """Return GOOD, or the kind of defect in a row's label; UserError if the label is empty."""
    label = (row["label"] or "").strip()
    if not label:
        raise UserError(f"{row['row']}: label is empty; give good, defective or the kind of defect")
    return GOOD if is_good(label) or label == "0" else DEFECTIVE if label == "1" else label


def read_rows(place: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a .csv or .jsonl file in UTF-8; the value `row` is added to each, its position for messages.

    Raises:
        UserError: the file cannot be read, is empty, or a row lacks one of `columns`.
    """
    try:
        with open(place, newline="", encoding="utf-8-sig") as file:
            if place.suffix.lower() == ".jsonl":
                rows = [{str(k): _text(v) for k, v in json.loads(line).items()} for line in file if line.strip()]
            else:
                rows = list(csv.DictReader(file, restval=""))
    except (OSError, ValueError, AttributeError, RecursionError, csv.Error) as error:
        raise UserError(f"cannot read {place}: {error}; it must be a table in UTF-8, .csv or .jsonl") from error
    for number, row in enumerate(rows, 2 if place.suffix.lower() == ".csv" else 1):
        missing = [name for name in columns if name not in row]
        if missing:
            raise UserError(
                f"{place}, row {number}: no {' and no '.join(missing)}; it needs the columns {' and '.join(columns)}"
            )
        row["row"] = f"{place}, row {number}"
    if not rows:
        raise UserError(f"{place} has no rows: give one per picture with {' and '.join(columns)}")
    return rows


def _text(value: object) -> str:
    return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
