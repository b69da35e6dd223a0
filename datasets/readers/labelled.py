"""Pictures with a verdict, to set a threshold by: a folder, or a table."""

from __future__ import annotations

import csv
from pathlib import Path

from deploy.errors import UserError
from deploy.predictor import file_sha256
from deploy.storage.table import original

from .mvtec import GOOD, pictures_by_kind

COLUMNS = ("path", "label")
VERDICTS = {GOOD: False, "0": False, "defective": True, "1": True}
"""What a table may say in its column `label`."""
DIGITS = 16


def labelled_pictures(place: str | Path) -> list[tuple[Path, bool]]:
    """Each picture with whether it is defective.

    `place` is a folder that holds `good/` and one or more other folders, of defective pictures, such as `test/` of
    MVTec AD; or a table, .csv, with the columns `path`, relative to the table's folder, and `label`, one of VERDICTS.

    Raises:
        UserError: neither, or a row that cannot be understood.
    """
    place = Path(place)
    if place.is_dir():
        return [(path, kind != GOOD) for path, kind in pictures_by_kind(place)]
    if place.suffix.lower() != ".csv" or not place.is_file():
        raise UserError(f"--calibrate {place}: give a folder with {GOOD}/ and others, or a .csv with path,label")
    return _table(place)


def _table(place: Path) -> list[tuple[Path, bool]]:
    try:
        with open(place, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {place}: {error}; it must be a table in UTF-8") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise UserError(f"{place} has no rows with the columns {' and '.join(COLUMNS)}: add them as its first line")
    found = []
    for number, row in enumerate(rows, 2):
        label = (row["label"] or "").strip().lower()
        if label not in VERDICTS:
            raise UserError(f"{place}, row {number}: label {label!r} is none of {', '.join(VERDICTS)}")
        path = place.parent / (row["path"] or "")
        if not path.is_file():
            path = place.parent / original(row["path"] or "")  # of a table that we wrote
        if not path.is_file():
            raise UserError(f"{place}, row {number}: no picture at {path}")
        found.append((path, VERDICTS[label]))
    return found


def picture_digests(paths: list[Path]) -> list[str]:
    """One short fingerprint per picture, of its file's bytes."""
    return [file_sha256(path)[:DIGITS] for path in paths]
