"""Labelled pictures, by which a threshold is set, from a folder or a table."""

from __future__ import annotations

from pathlib import Path

from deploy.errors import UserError
from deploy.predictor import file_sha256
from deploy.storage.table import original

from .category import GOOD, pictures_by_kind
from .table import SUFFIXES, read_rows

COLUMNS = ("path", "label")
VERDICTS = {GOOD: False, "0": False, "defective": True, "1": True}
"""Allowed values of a table's column `label`, and whether they mean defective."""
DIGITS = 16


def labelled_pictures(place: str | Path) -> list[tuple[Path, bool]]:
    """Return the pictures at `place`, each with whether it is defective.

    `place` is a folder with `good/` and one or more other folders of defective pictures, such as `test/` of MVTec AD;
    or a table, .csv or .jsonl, with the columns `path`, relative to the table's folder, and `label`, one of VERDICTS.

    Raises:
        UserError: `place` is neither, or a row of the table is not valid.
    """
    place = Path(place)
    if place.is_dir():
        return [(path, kind != GOOD) for path, kind in pictures_by_kind(place)]
    if place.suffix.lower() not in SUFFIXES or not place.is_file():
        raise UserError(f"--calibrate {place}: give a folder with {GOOD}/ and others, or a .csv with path,label")
    return _table(place)


def _table(place: Path) -> list[tuple[Path, bool]]:
    found = []
    for row in read_rows(place, COLUMNS):
        label = row["label"].strip().lower()
        if label not in VERDICTS:
            raise UserError(f"{row['row']}: label {label!r} is none of {', '.join(VERDICTS)}")
        path = place.parent / row["path"]
        if not path.is_file():
            path = place.parent / original(row["path"])  # undoes the escaping of tables written by PaddlePatch
        if not path.is_file():
            raise UserError(f"{row['row']}: no picture at {path}")
        found.append((path, VERDICTS[label]))
    return found


def picture_digests(paths: list[Path]) -> list[str]:
    """Return the first DIGITS digits of each file's sha256; UserError if a file cannot be read."""
    return [file_sha256(path)[:DIGITS] for path in paths]
