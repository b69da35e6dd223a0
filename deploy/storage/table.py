"""Tables as csv text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .files import check_replaceable, write_whole


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> Path:
    """Write a csv file whole; None becomes an empty cell. UserError where another program's file lies."""
    check_replaceable(path, ",".join(columns[:2]).encode())
    return write_whole(path, "".join(map(csv_line, [columns, *rows])))


def csv_line(cells: Iterable[Any]) -> str:
    """One line of a csv table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
