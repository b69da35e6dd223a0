"""A folder service: pictures are scored as they arrive, and the table survives a crash at any moment."""

from __future__ import annotations

import csv
import io
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, report
from ..pictures.listing import SUFFIXES, hidden
from ..predictor import Predictor
from ..storage.files import make_folder
from .tables import ScoreSheet, csv_line

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows has no such locks: there, start only one service per table
    flock = None  # type: ignore[assignment]

SETTLED = 5.0  # seconds without change after which a file that cannot be read is taken for bad, not for unfinished


class Stop:
    """True after Ctrl-C or `kill`; the picture that is being scored is still completed."""

    def __init__(self) -> None:
        self._requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._requested = True

    def __bool__(self) -> bool:
        return self._requested


def watch(folder: str | Path, predictor: Predictor, sheet: ScoreSheet) -> int:
    """Score what arrives in `folder` until told to end (then 0): a line in the sheet's table for every picture, once.

    A line is on disk before the next picture is begun, and its heat map and mask before it. Started again, it goes on
    where the table ends, whatever ended it. A picture that cannot be read gets a line without a score.

    Raises:
        UserError: the folder is gone, or something cannot be written.
    """
    stop, journal = Stop(), Journal(sheet.path, sheet.columns)
    folder = Path(folder).resolve()  # one name for a picture, wherever the service is started from
    print(f"watching {folder}: {len(journal.done)} pictures in {sheet.path} so far", flush=True)
    for path, settled in arrivals(folder, journal.done, stop):
        if not settled and not finished(path):
            continue
        try:
            [prediction] = predictor.predict([path], workers=0)
        except UserError as error:
            if settled:
                report(f"error: {error}")
                journal.add((str(path), *[""] * (len(sheet.columns) - 1)))
            continue
        sheet.draw(prediction, str(path.relative_to(folder)))
        journal.add(sheet.row(prediction))
    journal.close()
    print(f"{len(journal.done)} pictures in {sheet.path}")
    return 0


class Journal:
    """A csv table to which whole lines are added, each on disk before the next begins.

    A line that a crash cut short is removed when the table is opened again; lines with the same first cell are never
    written twice.

    Args:
        path: of the table.
        columns: its head, written when the table is new.

    Raises:
        UserError: the table is there with another head, is another process's, or cannot be opened.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
            if flock is not None:
                flock(self._file, LOCK_EX | LOCK_NB)
            self._file.seek(0)
            whole = self._file.read()
            end = whole.rfind(b"\n") + 1
            self._file.truncate(end)
        except BlockingIOError as error:
            raise UserError(f"{path} is being written by another process: end that one first") from error
        except OSError as error:
            raise UserError(f"cannot open {path}: {error.strerror}") from error
        rows = list(csv.reader(io.StringIO(whole[:end].decode(), newline="")))
        if rows and rows[0] != list(columns):
            raise UserError(f"{path} is a table of another program: give another --save_path, or move it away")
        self.done = {row[0] for row in rows[1:]}
        if not rows:
            self._write(columns)

    def close(self) -> None:
        """Let others write the table."""
        self._file.close()

    def add(self, row: Sequence[Any]) -> None:
        """Append one row, durably."""
        if row[0] in self.done:
            raise ValueError(f"{row[0]} is in {self.path} already")
        self._write(row)
        self.done.add(row[0])

    def _write(self, row: Sequence[Any]) -> None:
        data = csv_line(row).encode()
        try:
            if self._file.write(data) != len(data):
                raise OSError(28, "no space left on device")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; free space and start again") from error


def arrivals(folder: Path, done: set[str], stop: Stop, pause: float = 0.2) -> Iterator[tuple[Path, bool]]:
    """Pictures below `folder` that are not `done`, oldest first, until `stop`: each with whether it has settled.

    A file that cannot be read and has not settled may be unfinished: it comes again later, until it is in `done`.
    """
    while not stop:
        if not folder.is_dir():
            raise UserError(f"--watch {folder}: no such folder")
        found = []
        for path in folder.rglob("*"):
            if path.suffix.lower() in SUFFIXES and not hidden(path, folder) and str(path) not in done:
                try:
                    found.append((path.stat().st_mtime, path))
                except OSError:  # gone again
                    continue
        for changed, path in sorted(found):
            if stop:
                return
            yield path, time.time() - changed > SETTLED
        time.sleep(pause)


def finished(path: Path) -> bool:
    """Whether the file ends as a whole PNG or JPEG does; of other formats one cannot tell."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 12))
            tail = file.read()
    except OSError:
        return False
    return tail.endswith((b"\x00\x00\x00\x00IEND\xaeB`\x82", b"\xff\xd9"))
