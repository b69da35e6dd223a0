"""Finding pictures on disk by a file, a folder, a pattern, or a list."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from ..errors import UserError, report
from .mark import is_marked

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
OTHER_SUFFIXES = (".jfif", ".jpe", ".jp2", ".gif", ".heic", ".avif", ".pgm", ".ppm", ".pbm", ".dng", ".raw")
"""Pictures of these types are not looked for in folders; a note says that they were passed over."""
LIST_SUFFIX = ".txt"


def list_pictures(place: str | Path) -> list[Path]:
    """List the pictures at `place`: a picture, all pictures below a folder, those of a pattern, or of a list file.

    Pictures of folders and patterns (`*`, `?`, `[...]`; `**` for any folders) are sorted by path, and PaddlePatch's own
    heat maps and masks are left out. A list file, .txt, has one picture per line, relative to the working folder; empty
    lines are ignored. UserError if there are no pictures.

    Everything with a picture's suffix is listed; only `decode` finds out whether it can be read.
    """
    place = Path(place)
    if place.is_file() and place.suffix.lower() == LIST_SUFFIX:
        return _listed(place)
    if place.is_file():
        return [place]
    if place.is_dir():
        passed: list[Path] = []
        found = sorted(walk_pictures(place, passed, _unread))
        if passed:
            report(_passed_over(place, passed))
        if not found:
            raise UserError(f"no pictures in {place}: put {', '.join(SUFFIXES)} files there")
    else:
        matching = sorted(map(Path, glob.glob(str(place), recursive=True))) if glob.has_magic(str(place)) else []
        found = [path for path in matching if path.suffix.lower() in SUFFIXES]
        if not found:
            raise UserError(f"no picture or folder at {place}: check the path")
    pictures = [path for path in found if not is_marked(path)]
    if not pictures:
        raise UserError(f"no pictures in {place} but heat maps and masks of earlier runs: give the pictures themselves")
    if len(pictures) < len(found):
        report(f"note: {len(found) - len(pictures)} heat maps or masks of earlier runs in {place} are left out")
    return pictures


def walk_pictures(
    folder: Path, passed: list[Path] | None = None, on_error: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Yield everything below `folder` that has a picture's suffix, in any order.

    Files and folders whose names start with a dot (files of editors and systems) are ignored. Pictures of
    OTHER_SUFFIXES, and folders that are links (which are not entered), are added to `passed`. The error of a folder
    that cannot be read is passed to `on_error`; without it the folder is ignored.
    """
    for place, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [name for name in files if not name.startswith(".")]
        if passed is not None:
            passed += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
            passed += [Path(place, name) for name in files if os.path.splitext(name)[1].lower() in OTHER_SUFFIXES]
        for name in (*folders, *files):
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(place, name)


def _unread(error: OSError) -> None:
    """Refuse a folder that cannot be read: its pictures would be missing from results without notice."""
    if not isinstance(error, FileNotFoundError):  # just removed
        raise UserError(f"cannot read folder {error.filename}: {error.strerror}; allow it, or move it elsewhere")


def _passed_over(place: Path, passed: list[Path]) -> str:
    """Return the line that says what was passed over in a folder."""
    links = sum(path.is_dir() for path in passed)
    kinds = sorted({path.suffix.lower() for path in passed if not path.is_dir()})
    told = [f"{len(passed) - links} files of other kinds ({', '.join(kinds)})"] if kinds else []
    told += [f"{links} folders that are links"] if links else []
    return f"note: passed over in {place}: {' and '.join(told)}; only {', '.join(SUFFIXES)} are read"


def _listed(place: Path) -> list[Path]:
    try:
        data = place.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # written by editors of Windows
        text = data.decode("utf-16") if wide else data.decode("utf-8-sig", errors="surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {place} as a list of pictures, one path per line: {error}") from error
    lines = re.split("[\r\n]+", text)
    found = [Path(line.strip()) for line in lines if line.strip()]
    if not found:
        raise UserError(f"{place} lists no pictures: write a path on each line")
    return found
