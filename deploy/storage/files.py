"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import UserError


def make_folder(path: str | Path) -> Path:
    """Create `path` and its parents; UserError when that is not possible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {path}: {error.strerror}; choose another place or free it") from error
    return path


class GrowingFile:
    """A file written bit by bit beside `path`, which takes its name when it is finished and is gone otherwise."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        self._aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        with self._told():
            self._file = open(self._aside, "xb")  # noqa: SIM115

    def write(self, data: bytes | memoryview | str) -> None:
        """Add bytes or text; UserError when that is not possible."""
        with self._told():
            self._file.write(data.encode() if isinstance(data, str) else data)

    def finish(self) -> Path:
        """Give the file its name."""
        with self._told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._aside, self.path)
        return self.path

    def drop(self) -> None:
        """Leave nothing behind, unless finished."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._aside.unlink()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; nothing was changed there") from error


def write_whole(path: str | Path, data: bytes | str | Iterable[bytes | memoryview]) -> Path:
    """Write `data` or its blocks beside `path`, flush it, then rename: readers see the old file or the new one."""
    file = GrowingFile(path)
    try:
        for block in [data] if isinstance(data, (bytes, str)) else data:
            file.write(block)
        return file.finish()
    finally:
        file.drop()


@contextlib.contextmanager
def scratch_folder(beside: str | Path | None = None) -> Iterator[Path]:
    """A temporary folder, inside `beside` when its files will be renamed to there, that is gone afterwards."""
    if beside is not None:
        make_folder(beside)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".paddlepatch-", dir=beside))
    except OSError as error:
        raise UserError(f"cannot write in {beside or tempfile.gettempdir()}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
