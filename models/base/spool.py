"""Temporary storage of features on disk during fitting."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from deploy.errors import UserError
from deploy.storage.files import writing


class Spool:
    """Rows of float32 values in an unnamed temporary file, which the system deletes even if the run crashes.

    Args:
        folder: where the file is; None is the system's temporary folder.
        channels: values per row.

    Raises:
        UserError: the folder cannot be written to, now or while appending.
    """

    def __init__(self, folder: str | Path | None, channels: int) -> None:
        self.folder, self.channels = folder or tempfile.gettempdir(), channels
        self.rows = 0
        """Number of rows appended so far."""
        with self._writing():
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def append(self, rows: np.ndarray) -> None:
        """Append float32 [rows, channels]."""
        data = memoryview(np.ascontiguousarray(rows, np.float32)).cast("B")
        with self._writing():
            while data:
                data = data[self._file.write(data) :]
        self.rows += len(rows)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of these numbers, float32 [rows, channels].

        They are read, not memory-mapped, since a mapped file counts as used memory.
        """
        found = np.empty((len(rows), self.channels), np.float32)
        width = self.channels * found.itemsize
        for place in np.argsort(rows, kind="stable"):
            self._file.seek(int(rows[place]) * width)
            if self._file.readinto(memoryview(found[place]).cast("B")) != width:
                raise UserError(f"the features in {self.folder} were cut short: is something else writing there?")
        return found

    def read_block(self, first: int, count: int) -> np.ndarray:
        """The `count` rows from number `first` on, float32 [count, channels]."""
        found = np.empty((count, self.channels), np.float32)
        self._file.seek(first * self.channels * found.itemsize)
        data = memoryview(found).cast("B")
        while data:
            got = self._file.readinto(data)
            if not got:
                raise UserError(f"the features in {self.folder} were cut short: is something else writing there?")
            data = data[got:]
        return found

    def mapped(self) -> np.ndarray:
        """Return all rows, at least one, memory-mapped: float32 [rows, channels].

        The system deletes the file when it is no longer mapped.
        """
        return np.memmap(self._file, np.float32, "r+", shape=(self.rows, self.channels))

    def _writing(self) -> AbstractContextManager[None]:
        cure = "free space there, or set TMPDIR (for PatchCore --spool_dir) to a folder with more"
        return writing(f"the features in {self.folder}", cure)
