"""Rows on disk during fitting: all are written, and those that are asked for are read back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from deploy.errors import UserError


class Spool:
    """Rows of float32 values in an unnamed temporary file; the system deletes it however the run ends.

    Args:
        folder: where the file is; None is the system's temporary folder.
        channels: values per row.

    Raises:
        UserError: the folder cannot be written to, now or while appending.
    """

    def __init__(self, folder: str | Path | None, channels: int) -> None:
        self.folder, self.channels = folder or tempfile.gettempdir(), channels
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._error(error) from error

    def append(self, rows: np.ndarray) -> None:
        """Append float32 [rows, channels]."""
        data = memoryview(np.ascontiguousarray(rows, np.float32)).cast("B")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._error(error) from error

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these numbers, float32 [rows, channels], by plain reads: a mapped file counts as memory."""
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

    def _error(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write the features in {self.folder} ({error.strerror}): free space there, or set TMPDIR (for "
            "PatchCore --spool_dir) to a folder with more"
        )
