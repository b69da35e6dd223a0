"""Folder service: pictures are scored as they arrive, and the table survives a crash at any time."""

from __future__ import annotations

import csv
import errno
import io
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..drift import Drift
from ..errors import UserError, report
from ..pictures.listing import walk_pictures
from ..pictures.mark import is_marked
from ..predictor import Predictor
from ..storage.files import make_folder, writing
from ..storage.table import csv_line, original
from .tables import ScoreSheet

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows has no such locks: users must start only one service per table
    flock = None  # type: ignore[assignment]

SETTLED = 5.0  # seconds without change after which an unreadable file counts as bad, and not as unfinished
PAUSE = 0.2  # seconds between two looks into the folder
LONGEST_FIELD = 2**31 - 1  # limit for the bytes of one cell: a command can have megabytes


class Stop:
    """Is true after Ctrl-C or `kill`, so that the picture being scored is still completed."""

    def __init__(self) -> None:
        self._requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._requested = True

    def __bool__(self) -> bool:
        return self._requested


def watch(folder: str | Path, predictor: Predictor, sheet: ScoreSheet, drift: Drift | None = None) -> int:
    """Score pictures that arrive in `folder`, one line of the sheet's table for each; return 0 after Ctrl-C or `kill`.

    For every picture, heat map and mask are written first, then its line, and then the next picture is begun. After a
    stop or a crash, the service can be started again and continues where the table ends. A picture that cannot be read
    gets a line without a score. `drift` gets the pictures that are scored from now on; its alarm is printed.

    Raises:
        UserError: the folder is gone, or something cannot be written.
    """
    stop, journal = Stop(), Journal(sheet.path, sheet.columns)
    folder = Path(folder).resolve()  # a picture has the same name from whichever folder the service is started
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
        if drift is not None and drift.add(prediction.score, prediction.brightness):
            print(drift, flush=True)
    journal.close()
    print(f"{len(journal.done)} pictures in {sheet.path}")
    return 0


class Journal:
    """A csv table to which lines are appended, each of which is on disk before the next one is written.

    A line that was cut short by a crash is removed when the table is opened again. Two lines never have the same first
    cell. Bytes in a path that are not UTF-8 are kept as they are.

    Args:
        path: path of the table.
        columns: its first line, written if the table is new.

    Raises:
        UserError: the table exists with other columns or with a line that cannot be parsed, is used by another process,
            or cannot be opened; nothing in it was changed.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]) -> None:
        self.path, self._columns = Path(path), list(columns)
        make_folder(self.path.parent)
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
            if flock is not None:
                flock(self._file, LOCK_EX | LOCK_NB)
            self._file.seek(0)
            whole = self._file.read()
        except BlockingIOError as error:
            raise UserError(f"{path} is being written by another process: end that one first") from error
        except OSError as error:
            raise UserError(f"cannot open {path}: {error.strerror}") from error
        try:
            self.done = self._resume(whole)
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """Close the table; other processes may then write it."""
        self._file.close()

    def add(self, row: Sequence[Any]) -> None:
        """Append one row and flush it to disk; ValueError if its first cell is in the table already."""
        if row[0] in self.done:
            raise ValueError(f"{row[0]} is in {self.path} already")
        self._append(_line(row))
        self.done.add(row[0])

    def _resume(self, whole: bytes) -> set[str]:
        """Complete the first line, or remove a last line that was cut short; return the first cells of all lines."""
        head = _line(self._columns)
        if head.startswith(whole):  # new, or cut short in the head
            self._append(head[len(whole) :])
            return set()
        end = whole.rfind(b"\n") + 1
        while whole.count(b'"', 0, end) % 2:  # the line break is inside quotation marks, so it does not end the line
            end = whole.rfind(b"\n", 0, end - 1) + 1
        rows = self._rows(whole[:end].decode(errors="surrogateescape"))
        # if there are complete lines in the part to be removed, it is not a single line that was cut short
        if any(line.count(b",") >= len(self._columns) - 1 for line in whole[end:].split(b"\n")[:-1]):
            raise self._damaged("a quotation mark is missing, or one too many")
        if end < len(whole):
            with self._writing():
                self._file.truncate(end)
        return {original(row[0]) for row in rows}

    def _rows(self, text: str) -> list[list[str]]:
        """Return the lines below the columns' names, without blank ones; UserError if the table is not ours."""
        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = []
        try:
            for row in reader:
                if not rows and row != self._columns:
                    break
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(self._columns):
                    raise self._damaged(f"line {reader.line_num} has {len(row)} cells, not {len(self._columns)}")
                rows.append(row)
        except csv.Error as error:
            raise self._damaged(f"line {reader.line_num}: {error}") from error
        if not rows:
            raise UserError(f"{self.path} is a table of another program: give another --save_path, or move it away")
        return rows[1:]

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self.path} cannot be understood ({why}): mend it or move it away; nothing was changed")

    def _append(self, data: bytes) -> None:
        with self._writing():
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self.path, "free space and start again")


def _line(cells: Sequence[Any]) -> bytes:
    return csv_line(cells).encode(errors="surrogateescape")


def arrivals(folder: Path, done: set[str], stop: Stop) -> Iterator[tuple[Path, bool]]:
    """Yield files below `folder` with a picture's suffix that are not `done`, oldest first, until `stop`.

    With each comes whether it has settled (was not changed for SETTLED seconds). A file that cannot be read and has not
    settled may be unfinished; it is yielded again until it is in `done`. PaddlePatch's own heat maps and masks are left
    out.
    """

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError) and error.filename == str(folder):
            raise UserError(f"--watch {folder}: {error.strerror}; allow it to be read") from error

    results: set[Path] = set()
    while not stop:
        if not folder.is_dir():
            raise UserError(f"--watch {folder}: no such folder")
        found = []
        for path in walk_pictures(folder, on_error=refuse):
            if str(path) in done or path in results:
                continue
            if is_marked(path):
                results.add(path)
                continue
            try:
                found.append((os.stat(path, follow_symlinks=path.exists()).st_mtime, path))
            except OSError:  # the file does not exist any more
                continue
        for changed, path in sorted(found):
            if stop:
                return
            yield path, time.time() - changed > SETTLED
        time.sleep(PAUSE)


def finished(path: Path) -> bool:
    """Whether the file ends like a complete PNG or JPEG file; False for other formats, whose end is not known."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for its writer
            return False
        with open(path, "rb") as file:
            file.seek(max(0, state.st_size - 12))
            tail = file.read()
    except OSError:
        return False
    return tail.endswith((b"\x00\x00\x00\x00IEND\xaeB`\x82", b"\xff\xd9"))
