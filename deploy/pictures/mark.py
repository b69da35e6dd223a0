"""The mark of a picture that is a result: it is never scored, and a later run may replace it where it was written.

The mark is a PNG text chunk with a sha256 over the picture and the place it was written to. So it tells a picture that
lies as it was written from one that was edited, renamed, or made by anybody else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from pathlib import Path

HEAD = 33  # bytes of a PNG's signature and its first chunk, which must be IHDR
START = (64 + len(b"PaddlePatch\0")).to_bytes(4, "big") + b"tEXtPaddlePatch\0"
CHUNK = len(START) + 64 + 4  # bytes of the mark: its start, the digest in hexadecimal, the checksum


def marked(png: bytes, place: str) -> bytes:
    """The PNG file with the mark of `place`: which run writes it, and under what name."""
    chunk = START + _digest(png, place)
    return png[:HEAD] + chunk + zlib.crc32(chunk[4:]).to_bytes(4, "big") + png[HEAD:]


def is_marked(path: str | Path) -> bool:
    """Whether the file is a result, wherever it lies; False for what is no PNG file or cannot be read."""
    return Path(path).suffix.lower() == ".png" and _read(path, HEAD + len(START))[HEAD:] == START


def lies_as_marked(path: str | Path, place: str) -> bool:
    """Whether the file is what was written with the mark of `place`, byte for byte, and not a link to it."""
    if os.path.islink(path) or not is_marked(path):
        return False
    data = _read(path)
    return data == marked(data[:HEAD] + data[HEAD + CHUNK :], place)


def _digest(png: bytes, place: str) -> bytes:
    return hashlib.sha256(os.fsencode(place) + b"\0" + png).hexdigest().encode()


def _read(path: str | Path, size: int = -1) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would not end
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
