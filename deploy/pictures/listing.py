"""Finding pictures on disk: a file, a folder, a pattern, or a list."""

from __future__ import annotations

import glob
from pathlib import Path

from ..errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LIST_SUFFIX = ".txt"


def list_pictures(place: str | Path) -> list[Path]:
    """The pictures that `place` stands for: a picture, all below a folder, a pattern's, or a list file's.

    Folders and patterns (`*`, `?`, `[...]`; `**` for any folders) are sorted by path. A list file, .txt, has a picture
    per line, relative to the working folder; empty lines are passed over. UserError when there is none.
    """
    place = Path(place)
    if place.is_file() and place.suffix.lower() == LIST_SUFFIX:
        return _listed(place)
    if place.is_file():
        return [place]
    if not place.is_dir():
        matching = sorted(map(Path, glob.glob(str(place), recursive=True))) if glob.has_magic(str(place)) else []
        found = [path for path in matching if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not found:
            raise UserError(f"no picture or folder at {place}: check the path")
        return found
    found = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not hidden(p, place))
    if not found:
        raise UserError(f"no pictures in {place}: put {', '.join(SUFFIXES)} files there")
    return found


def _listed(place: Path) -> list[Path]:
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {place} as a list of pictures, one path per line: {error}") from error
    found = [Path(line.strip()) for line in lines if line.strip()]
    if not found:
        raise UserError(f"{place} lists no pictures: write a path on each line")
    return found


def hidden(path: Path, below: Path) -> bool:
    """Whether a part of `path` under `below` starts with a dot (editors' and systems' own files)."""
    return any(part.startswith(".") for part in path.relative_to(below).parts)
