"""Division of a list of pictures into parts. Each part is scored as a whole, and its result is kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Union

from ..errors import UserError
from ..storage.files import ASIDE, write_whole

SIZE = 32
"""Smallest number of pictures of a part (the last may have fewer). If a worker dies, the work on its part is lost."""


class Stored(NamedTuple):
    """A picture whose bytes are in a row of a Parquet file."""

    file: str
    row: int
    name: str

    def __str__(self) -> str:
        return self.name


Listed = Union[Path, Stored]


class Part(NamedTuple):
    """Consecutive pictures of the list."""

    name: str
    """Fingerprint of the pictures and of everything that their scores depend on."""
    pictures: str
    """json list: for each picture its path, or file, row and name of a `Stored`."""
    count: int


class Result(NamedTuple):
    """Result of a part, in the order of its pictures."""

    scores: list[tuple[str, float, float]]
    """Name, score and brightness (see `Prediction`) of each picture that could be read."""
    skipped: list[tuple[str, str]]
    """Name of each picture that could not be read, and the reason."""


def cut(pictures: Sequence[Listed], batch_size: int, depends: Any) -> Iterator[Part]:
    """Divide a list into parts of whole batches.

    Args:
        pictures: the pictures to score.
        batch_size: number of pictures per run of the program.
        depends: everything else that the scores depend on, as json types.
    """
    size, remaining, stamps = -(-SIZE // batch_size) * batch_size, iter(pictures), {}
    while some := list(islice(remaining, size)):
        for file in {one.file for one in some if isinstance(one, Stored)} - set(stamps):
            stamps[file] = _stamp(file)
        seen = [stamps[one.file] if isinstance(one, Stored) else _stamp(one) for one in some]
        listed = json.dumps([one if isinstance(one, Stored) else str(one) for one in some])
        whole = json.dumps([depends, batch_size, listed, seen])
        yield Part(hashlib.sha256(whole.encode()).hexdigest(), listed, len(some))


def _stamp(path: str | Path) -> tuple[int, int] | None:
    """Return size and modification time of a file, to notice changes of its content; None if it does not exist."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


class Store:
    """The finished parts in a folder, in one file each; a file exists only when it is complete.

    The files are named by fingerprints. So the parts that a stopped run has left are used if, and only if, the same
    pictures would be scored again in the same way.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __contains__(self, part: Part) -> bool:
        return self._file(part).is_file()

    def write(self, part: Part, text: str) -> None:
        """Write the result of a part, the json text of a `Result`; UserError if that is not possible."""
        write_whole(self._file(part), text)

    def read(self, part: Part) -> Result:
        """Read the result of a part; UserError if its file cannot be read, or has another number of pictures."""
        path = self._file(part)
        try:
            result = Result(*json.loads(path.read_text("utf-8")))
            complete = len(result.scores) + len(result.skipped) == part.count
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read {path}, a part of an earlier run: {error}; remove it") from error
        if not complete:
            raise UserError(f"{path} has not the {part.count} pictures of its part: remove it")
        return result

    def remove(self) -> None:
        """Remove all parts, including those of stopped runs with other settings."""
        for pattern in (f"{'[0-9a-f]' * 64}.json", f"{ASIDE}*"):
            for path in self.folder.glob(pattern):
                path.unlink()
        with suppress(OSError):  # raised if there are other files in it
            self.folder.rmdir()

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.name}.json"
