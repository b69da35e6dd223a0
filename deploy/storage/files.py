"""Writing files so that they appear completely or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from ..errors import UserError, report

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

ASIDE = ".paddlepatch-"
"""Prefix of the names of temporary files and folders; the dot keeps them out of listings."""
LEFT = 24 * 3600.0
"""Seconds without change after which such a file or folder counts as left behind by a killed run."""
LONGEST_NAME, LONGEST_PATH = 255, 4095  # in bytes, for Linux; other systems' limits of names are the same in letters


def make_folder(path: str | Path) -> Path:
    """Create `path` and its parents; UserError if that is not possible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {path}: {error.strerror}; choose another place or free it") from error
    return path


def plain_name(name: object, what: str) -> str:
    """Return `name`, which comes from outside, if it is a plain name for a file or folder; UserError if it is not."""
    if not isinstance(name, str) or name in ("", ".", "..") or "\0" in name or Path(name).name != name:
        raise UserError(f"{what} {name!r} is not a plain name: it must not lead to another folder")
    if len(name.encode(errors="surrogatepass")) > LONGEST_NAME or any("\ud800" <= letter < "\udc80" for letter in name):
        raise UserError(f"{what} {name[:40]!r}... is no name that a file can have")
    return name


def check_replaceable(path: str | Path, start: bytes, offset: int = 0) -> None:
    """Raise UserError if a file at `path` was written by another program, or cannot be read.

    Our own files have `start` at `offset`; an empty file may be replaced as well.
    """
    try:
        with open(path, "rb") as file:
            found = file.read(offset + len(start))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    if found and found[offset:] != start:
        raise UserError(f"{path} was not written by this program: move it away, or choose another place")


def remove_former(path: str | Path, start: bytes) -> None:
    """Remove the file at `path` if it is our own, that is, if it begins with `start`; UserError if that fails."""
    try:
        check_replaceable(path, start)
    except UserError:  # not ours: it stays
        return
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot remove {path}: {error.strerror}") from error


def fitting_path(folder: Path, name: str) -> Path:
    """Return a path below `folder` for the file `name`, which may contain folders.

    Parts that are too long for the file system are cut, and a fingerprint of the whole part is appended (before the
    suffix in the last part). So the same name always has the same path, and different names have different paths.
    """
    parts, suffix = list(Path(name).parts), Path(name).suffix
    parts[-1] = parts[-1][: -len(suffix)] if suffix else parts[-1]
    parts = [_cut(part, LONGEST_NAME - len(os.fsencode(suffix))) for part in parts]
    if len(os.fsencode(folder.absolute().joinpath(*parts))) > LONGEST_PATH - LONGEST_NAME:
        parts = [_cut(name, 0)]
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


def _cut(text: str, longest: int) -> str:
    data = os.fsencode(text)
    if len(data) <= longest:
        return text
    digest = hashlib.sha256(data).hexdigest()[:32]
    return f"{data[: max(0, longest - 33)].decode(errors='ignore')}-{digest}"


@lru_cache(None)  # once per folder and process
def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed runs have left in `folder`: names that begin with ASIDE, a day old or more."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{ASIDE}*"):
            with contextlib.suppress(OSError):
                newest = max(inner.lstat().st_mtime for inner in (path, *path.rglob("*")))
                if time.time() - newest < LEFT:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


@contextlib.contextmanager
def writing(place: object, cure: str) -> Iterator[None]:
    """Context manager that turns an OSError into a UserError: `place` cannot be written, why, and the `cure`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror}; {cure}") from error


class GrowingFile:
    """A file that is written in parts under a temporary name. It is renamed to `path` when finished, else removed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        remove_leftovers(make_folder(self.path.parent))
        self._aside = self.path.with_name(f"{ASIDE}{secrets.token_hex(4)}")  # short: `path` may have the longest name
        with self._writing():
            self._file = open(self._aside, "xb")  # noqa: SIM115

    def write(self, data: bytes | memoryview | str) -> None:
        """Append bytes or text; UserError if that is not possible."""
        with self._writing():
            self._file.write(data.encode(errors="surrogateescape") if isinstance(data, str) else data)

    def finish(self) -> Path:
        """Flush the file to disk, rename it to `path`, and return `path`."""
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._aside, self.path)
        return self.path

    def drop(self) -> None:
        """Remove the unfinished file; a finished one stays."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._aside.unlink()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self.path, "nothing was changed there")


def write_whole(path: str | Path, data: bytes | str | Iterable[bytes | memoryview]) -> Path:
    """Write `data`, or its blocks, to a temporary file, flush it, then rename it to `path`.

    So readers see either the old file or the new one.
    """
    file = GrowingFile(path)
    try:
        for block in [data] if isinstance(data, (bytes, str)) else data:
            file.write(block)
        return file.finish()
    finally:
        file.drop()


@contextlib.contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Lock `folder` for one run, and create it if it does not exist; UserError while another run has it locked.

    The system releases the lock when the process ends, even after a crash. A folder that was created and stays empty is
    removed.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another run is writing in {folder}: wait for it, or give another --save_path") from error
        except OSError:  # the file system has no locks
            report(f"note: {folder} cannot be locked: do not start another run there")
        yield
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()


@contextlib.contextmanager
def scratch_folder(beside: str | Path | None = None) -> Iterator[Path]:
    """Context manager that yields a temporary folder, and removes it at the end.

    It is inside `beside` if given, so that its files can be renamed into that folder.
    """
    remove_leftovers(Path(tempfile.gettempdir()) if beside is None else make_folder(beside))
    try:
        folder = Path(tempfile.mkdtemp(prefix=ASIDE, dir=beside))
    except OSError as error:
        raise UserError(f"cannot write in {beside or tempfile.gettempdir()}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
