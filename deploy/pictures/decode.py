"""Decoding picture files to arrays, and encoding arrays as PNG."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Union

import cv2
import numpy as np

from ..errors import UserError
from .formats import Stated, check_whole, stated


class Encoded(NamedTuple):
    """A picture file's content, in memory."""

    name: str
    """Name to use instead of a path in messages and results."""
    data: bytes

    def __str__(self) -> str:
        return self.name


File = Union[str, Path, Encoded]
Picture = Union[File, np.ndarray]
"""A path, a file's content, or a uint8 array [height, width, 3] in RGB, values 0-255."""

MOST_VARIABLE = "PADDLEPATCH_MAX_PIXELS"
MOST_PIXELS = 1 << 27
"""Number of pixels of the largest picture that is decoded (11,585 x 11,585), unless MOST_VARIABLE is set."""
DARK = 1 << 12
"""A 16-bit picture whose values are all below this holds 12-bit data, and is refused unless limits are given."""

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")


def several(pictures: Iterable[Picture]) -> Iterable[Picture]:
    """Return `pictures`; UserError where they are one picture, whose letters or rows would be taken for pictures."""
    one = isinstance(pictures, (str, bytes, os.PathLike, Encoded)) or getattr(pictures, "ndim", 0) in (2, 3)
    if one or not isinstance(pictures, Iterable):
        told = f"array {pictures.shape}" if isinstance(pictures, np.ndarray) else repr(pictures)[:200]
        raise UserError(f"pictures must be a list, got {told}: give [picture], or sorted(Path(folder).glob('*.png'))")
    return pictures


class TooLarge(UserError):
    """A picture has more pixels than `most_pixels`."""


def decode(path: File) -> np.ndarray:
    """Decode a file to uint8 RGB [height, width, 3], values 0-255; see `decode_bgr`."""
    return cv2.cvtColor(decode_bgr(path), cv2.COLOR_BGR2RGB)


def decode_bgr(path: File, limits: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a file to uint8 BGR [height, width, 3], values 0-255.

    Grey, palette, CMYK and 16-bit pictures are converted, alpha is dropped, and the EXIF orientation is applied. In
    16-bit pictures, values up to the first of `limits` become 0 and values from the second on become 255. Without
    `limits`, the upper 8 bits are kept.

    Raises:
        UserError: the file is missing, cut short, not a picture, or larger than `most_pixels`; or it has 16-bit values
            that are all below DARK, and no limits are given.
    """
    picture = decode_deep(path)
    if picture.dtype == np.uint8:
        return picture
    if limits is not None:
        low, high = limits
        levels = np.clip(np.round((np.arange(1 << 16) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
        return levels[picture]
    if 0 < picture.max() < DARK:
        raise UserError(
            f"cannot read picture {path}: its 16-bit values end at {picture.max()}, as 12-bit data do, and would be "
            "read as black: train with --range 0 4095, or save 8 bits"
        )
    return (picture >> 8).astype(np.uint8)


def decode_deep(path: File) -> np.ndarray:
    """Decode a file to BGR [height, width, 3], uint16 if it has 16 bits per value, else uint8.

    Errors as `decode_bgr`, but dark 16-bit pictures are accepted.
    """
    return _decoded(path, cv2.IMREAD_COLOR)


def has_16_bits(path: str | Path) -> bool:
    """Whether a file has 16 bits per value according to its header; False if it cannot be read."""
    try:
        return _stated(path).bits == 16
    except UserError:
        return False


def picture_shape(picture: Picture) -> tuple[int, int]:
    """Height and width of a picture, before the EXIF orientation is applied; of a file only the header is decoded.

    UserError if the file cannot be read or is not a picture.
    """
    if isinstance(picture, np.ndarray):
        return picture.shape[:2]
    told = _stated(picture)
    return told.height, told.width


def _stated(path: File) -> Stated:
    """Size and bits of a picture according to the file's header; UserError if it cannot be read."""
    try:
        told = stated(_content(path).tobytes())
    except ValueError as error:
        raise UserError(f"cannot read picture {path}: {error}") from error
    if told is None:
        raise UserError(f"cannot read picture {path}: no kind of picture that is known here")
    return told


def decode_mask(path: str | Path) -> np.ndarray:
    """Decode a mask of 8 or 16 bits to bool [height, width], True where a pixel is above 0; errors as `decode_bgr`."""
    return _decoded(path, cv2.IMREAD_GRAYSCALE) > 0


def most_pixels() -> int:
    """Largest number of pixels of a picture, from the environment variable MOST_VARIABLE or MOST_PIXELS.

    UserError if the variable is not a number.
    """
    told = os.environ.get(MOST_VARIABLE, "")
    if told and not (told.isascii() and told.isdigit() and int(told) > 0):
        raise UserError(f"${MOST_VARIABLE} {told} is no number of pixels: give a whole number of at least 1")
    return int(told or MOST_PIXELS)


def _content(path: File) -> np.ndarray:
    """The bytes of a file; UserError if it is empty, not a regular file, or cannot be read."""
    data = np.frombuffer(path.data, np.uint8) if isinstance(path, Encoded) else _read(path)
    if data.size == 0:
        raise UserError(f"cannot read picture {path}: the file is empty")
    return data


def _read(path: str | Path) -> np.ndarray:
    if not isinstance(path, (str, os.PathLike)):  # a number would be taken for an open file
        raise UserError(
            f"a picture must be a path or an array uint8 [height, width, 3], got {type(path).__name__}: "
            "give numpy.asarray(picture) of a picture that another package opened"
        )
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # reading a pipe or a device might never end
            raise UserError(
                f"cannot read picture {path}: it is {'a folder' if stat.S_ISDIR(kind) else 'a pipe, socket or device'}"
            )
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read picture {path}: {error.strerror}") from error
    except (ValueError, MemoryError) as error:  # a zero byte in the name; a file larger than the memory
        raise UserError(f"cannot read picture {path}: {error}") from error


def _decoded(path: File, colours: int) -> np.ndarray:
    """Decode a file to uint8, or to uint16 if it has 16 bits per value; `colours` is OpenCV's flag for the channels."""
    data = _content(path)
    plain = data.tobytes()
    try:
        told = stated(plain)
        if told is not None and told.width * told.height > most_pixels():
            raise TooLarge(
                f"cannot read picture {path}: it has {told.width} x {told.height} pixels, more than {most_pixels()}; "
                f"set ${MOST_VARIABLE} to allow more"
            )
        if told is not None:
            check_whole(plain, told)
        depth = cv2.IMREAD_ANYDEPTH if told is not None and told.bits == 16 else 0
        picture = None if told is None else cv2.imdecode(data, colours | depth)
    except ValueError as error:
        raise UserError(f"cannot read picture {path}: {error}") from error
    except cv2.error as error:
        raise UserError(f"cannot read picture {path}: {error.err}") from error
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise UserError(f"cannot read picture {path}: not a picture that OpenCV {cv2.__version__} can decode")
    return picture


def encode_png(picture: np.ndarray) -> bytes:
    """PNG bytes of uint8 RGB [height, width, 3], or grey [height, width] of uint8 or uint16."""
    return cv2.imencode(".png", picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
