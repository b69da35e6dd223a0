"""Pictures on disk: finding them and decoding them."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Union

import cv2
import numpy as np

from .errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LIST_SUFFIX = ".txt"
Picture = Union[str, Path, np.ndarray]
"""A path, or an array uint8 [height, width, 3] in RGB, values 0-255."""

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")


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


def decode(path: str | Path, grey: bool = False) -> np.ndarray:
    """`decode_bgr` with the channels in the order red, green, blue."""
    picture = decode_bgr(path, grey)
    return picture if grey else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_bgr(path: str | Path, grey: bool = False) -> np.ndarray:
    """Decode a file to uint8 BGR [height, width, 3], values 0-255 (or [height, width] if `grey`).

    Grey, palette, CMYK and 16-bit pictures are converted (16 bits by their upper 8), alpha is dropped, and the EXIF
    orientation is applied. Raises UserError naming the file when it is missing, cut short or no picture.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read picture {path}: {error.strerror}") from error
    if data.size == 0:
        raise UserError(f"cannot read picture {path}: the file is empty")
    if _cut_short(data):
        raise UserError(f"cannot read picture {path}: the file is cut short; copy it again")
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UserError(f"cannot read picture {path}: {error.err}") from error
    if picture is None:
        raise UserError(f"cannot read picture {path}: not a picture that OpenCV {cv2.__version__} can decode")
    return picture


def encode_png(picture: np.ndarray) -> bytes:
    """PNG bytes of uint8 RGB [height, width, 3] or grey [height, width]."""
    return cv2.imencode(".png", picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _cut_short(data: np.ndarray) -> bool:
    # Decoders print to stderr, or fill the rest with grey, when the end of a file is missing: look for it first.
    head, tail = data[:8].tobytes(), data[-4096:].tobytes()
    if head == b"\x89PNG\r\n\x1a\n":
        return b"IEND" not in tail and b"IEND" not in data.tobytes()
    if head[:3] == b"\xff\xd8\xff":
        return b"\xff\xd9" not in tail and b"\xff\xd9" not in data[2:].tobytes()
    return False
