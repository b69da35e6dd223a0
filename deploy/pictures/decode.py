"""Decoding picture files to arrays, and encoding arrays as PNG."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Union

import cv2
import numpy as np

from ..errors import UserError

Picture = Union[str, Path, np.ndarray]
"""A path, or an array uint8 [height, width, 3] in RGB, values 0-255."""

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")


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
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # reading a pipe or a device might never end
            raise UserError(
                f"cannot read picture {path}: it is {'a folder' if stat.S_ISDIR(kind) else 'a pipe, socket or device'}"
            )
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read picture {path}: {error.strerror}") from error
    except (ValueError, MemoryError) as error:  # a zero byte in the name; a file larger than the memory
        raise UserError(f"cannot read picture {path}: {error}") from error
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
