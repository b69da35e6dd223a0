"""A list of pictures cut into parts, each of which is scored in one piece and finished in a file of its own."""

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
"""Pictures of a part, at least: what a worker that dies takes with it."""


class Stored(NamedTuple):
    """A picture whose bytes are in a row of a Parquet file."""

    file: str
    row: int
    name: str

    def __str__(self) -> str:
        return self.name


Listed = Union[Path, Stored]


class Part(NamedTuple):
    """Consecutive pictures."""

    name: str
    """A fingerprint of the pictures and of all that their scores depend on."""
    pictures: str
    """json: a path, or file, row and name of a `Stored`, for each."""
    count: int


class Result(NamedTuple):
    """What became of a part's pictures, in their order."""

    scores: list[tuple[str, float, float]]
    """Name, score and brightness of each that could be read, as in `Prediction`."""
    skipped: list[tuple[str, str]]
    """Name, and why it could not be read, of each of the others."""


def cut(pictures: Sequence[Listed], batch_size: int, depends: Any) -> Iterator[Part]:
    """Cut a list into parts of whole batches.

    Args:
        pictures: what to score.
        batch_size: pictures of a run of the program.
        depends: whatever else the scores depend on, as json types.
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
    """What changes with a file's content: its size in bytes, and when it was written; None where it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


class Store:
    """The finished parts in a folder, a file for each, which is there only when it is whole.

    Their names are fingerprints, so that what a stopped run has left is used if, and only if, the same would be scored
    again.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __contains__(self, part: Part) -> bool:
        return self._file(part).is_file()

    def write(self, part: Part, text: str) -> None:
        """Keep what became of a part, the json of a `Result`. UserError where that cannot be written."""
        write_whole(self._file(part), text)

    def read(self, part: Part) -> Result:
        """What became of a part; UserError where its file cannot be read, or has not as many pictures as the part."""
        path = self._file(part)
        try:
            result = Result(*json.loads(path.read_text()))
            complete = len(result.scores) + len(result.skipped) == part.count
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read {path}, a part of an earlier run: {error}; remove it") from error
        if not complete:
            raise UserError(f"{path} has not the {part.count} pictures of its part: remove it")
        return result

    def remove(self) -> None:
        """Remove all parts, those of stopped runs with other settings too."""
        for pattern in (f"{'[0-9a-f]' * 64}.json", f"{ASIDE}*"):
            for path in self.folder.glob(pattern):
                path.unlink()
        with suppress(OSError):  # other files lie there
            self.folder.rmdir()

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.name}.json"
