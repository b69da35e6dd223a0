"""Tables in csv format."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .files import check_replaceable, write_whole

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets would run as formulas."""


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> Path:
    """Write a csv file; None becomes an empty cell. UserError if another program's file is at `path`."""
    check_replaceable(path, ",".join(columns[:2]).encode())
    return write_whole(path, "".join(map(csv_line, [columns, *rows])))


def csv_line(cells: Iterable[Any]) -> str:
    """Return one line of a csv table; text is changed as `neutral` describes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([neutral(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def neutral(cell: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; numbers stay as they are."""
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA) and not _is_number(cell) else cell


def original(cell: str) -> str:
    """The inverse of `neutral`."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
