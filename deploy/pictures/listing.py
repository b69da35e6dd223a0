"""Finding pictures on disk: a file, a folder, a pattern, or a list."""

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
"""Pictures that we do not look for in folders, and say so."""
LIST_SUFFIX = ".txt"


def list_pictures(place: str | Path) -> list[Path]:
    """The pictures that `place` stands for: a picture, all below a folder, a pattern's, or a list file's.

    Folders and patterns (`*`, `?`, `[...]`; `**` for any folders) are sorted by path, and heat maps and masks that we
    wrote are left out. A list file, .txt, has a picture per line, relative to the working folder; empty lines are
    passed over. UserError when there is none.

    What is called like a picture is listed, whatever it is: `decode` says of each what is wrong with it.
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
    """Everything below `folder` that is called like a picture, in any order.

    Names that start with a dot (editors' and systems' own files) are passed over, and so are all below them. Added to
    `passed` are pictures of kinds that we do not look for, and folders that are links, which are not entered. What
    says that a folder cannot be read goes to `on_error`; without it the folder is passed over.
    """
    for place, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if passed is not None:
            passed += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
            passed += [Path(place, name) for name in files if os.path.splitext(name)[1].lower() in OTHER_SUFFIXES]
        for name in (*folders, *files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(place, name)


def _unread(error: OSError) -> None:
    """Refuse a folder that cannot be read: its pictures would be missing from results, and nobody be told."""
    if not isinstance(error, FileNotFoundError):  # just removed
        raise UserError(f"cannot read folder {error.filename}: {error.strerror}; allow it, or move it elsewhere")


def _passed_over(place: Path, passed: list[Path]) -> str:
    """The line about what in a folder is passed over."""
    links = sum(path.is_dir() for path in passed)
    kinds = sorted({path.suffix.lower() for path in passed if not path.is_dir()})
    told = [f"{len(passed) - links} files of other kinds ({', '.join(kinds)})"] if kinds else []
    told += [f"{links} folders that are links"] if links else []
    return f"note: passed over in {place}: {' and '.join(told)}; only {', '.join(SUFFIXES)} are read"


def _listed(place: Path) -> list[Path]:
    try:
        data = place.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # of Windows' editors
        text = data.decode("utf-16") if wide else data.decode("utf-8-sig", errors="surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {place} as a list of pictures, one path per line: {error}") from error
    lines = re.split("[\r\n]+", text)
    found = [Path(line.strip()) for line in lines if line.strip()]
    if not found:
        raise UserError(f"{place} lists no pictures: write a path on each line")
    return found
