"""Pictures that visitors upload. They are checked before they are kept, and stored under names of our own."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UserError
from deploy.pictures.decode import decode_deep, picture_shape

MOST_MEGABYTES = 20
"""Largest size of one picture's file."""
MOST_PIXELS = 1 << 25
"""Largest number of pixels of one picture, 33 million: a hundred megabytes after decoding."""
MOST_TRAINING, MOST_TESTED = 500, 100
"""Largest numbers of training and of test pictures that a visitor may have at one time."""
MOST_BYTES = 1 << 29
"""Largest size of all pictures of one visitor."""
LONGEST_NAME = 80  # number of letters that are shown


class Refused(Exception):
    """A picture is refused; `reason` is a key of `app.texts`, and `told` has the values for its text."""

    def __init__(self, reason: str, **told: object) -> None:
        super().__init__(reason)
        self.reason, self.told = reason, told


@dataclass
class Upload:
    """A picture that was accepted."""

    path: Path
    """Path of its file, whose name is a number."""
    name: str
    """The visitor's name of the file; it is only shown, and never used as a path."""


def shown_name(name: str) -> str:
    """Return the last part of a visitor's file name, without control characters, at most LONGEST_NAME letters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C")
    return plain[-LONGEST_NAME:] or "?"


def keep(data: bytes, name: str, path: Path) -> Upload:
    """Write a visitor's picture to `path`, which must not exist.

    Raises:
        Refused: it is too large, or not a picture, or cannot be stored; then no file is left at `path`.
    """
    name = shown_name(name)
    if len(data) > MOST_MEGABYTES << 20:
        raise Refused("too_large", name=name, most=MOST_MEGABYTES)
    try:
        with open(path, "xb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Refused("not_stored", name=name, cause=error.strerror) from error
    try:
        height, width = picture_shape(path)
        if height * width > MOST_PIXELS:
            raise Refused("too_many_pixels", name=name, width=width, height=height, most=MOST_PIXELS // 10**6)
        decode_deep(path)
    except UserError as error:
        path.unlink()
        cause = str(error).replace(f"cannot read picture {path}: ", "")
        raise Refused("no_picture", name=name, cause=cause) from error
    except Refused:
        path.unlink()
        raise
    return Upload(path, name)
