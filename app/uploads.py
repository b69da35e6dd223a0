"""Pictures that visitors send: looked at before they are kept, and never called as the visitor called them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UserError
from deploy.pictures.decode import decode_deep, picture_shape

MOST_MEGABYTES = 20
"""Of one picture's file."""
MOST_PIXELS = 1 << 25
"""Of one picture, 33 million: a hundred megabytes when it is decoded."""
MOST_TRAINING, MOST_TESTED = 500, 100
"""Pictures that a visitor may have at one time."""
MOST_BYTES = 1 << 29
"""Of all pictures of one visitor."""
LONGEST_NAME = 80  # letters that are shown


class Refused(Exception):
    """A picture is not taken; `reason` is a key of `app.texts`, and `told` what its text needs."""

    def __init__(self, reason: str, **told: object) -> None:
        super().__init__(reason)
        self.reason, self.told = reason, told


@dataclass
class Upload:
    """One picture that was taken."""

    path: Path
    """Its place, which has a number for a name."""
    name: str
    """What the visitor called it; to be shown, never to be opened."""


def shown_name(name: str) -> str:
    """The last part of a visitor's file name, without control characters, and not long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C")
    return plain[-LONGEST_NAME:] or "?"


def keep(data: bytes, name: str, path: Path) -> Upload:
    """Write a visitor's picture to `path`, which must be free.

    Raises:
        Refused: it is too large, or no picture, or there is no room; nothing is left at `path`.
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
