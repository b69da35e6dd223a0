"""Mark in PNG files that are results. Marked files are never scored, and a later run may replace them.

The mark is a PNG text chunk with a sha256 over the picture and the place where it was written. So an unchanged result
can be distinguished from a file that was edited, renamed, or made by another program.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from pathlib import Path

HEAD = 33  # bytes of a PNG's signature and its first chunk, which is always IHDR
START = (64 + len(b"PaddlePatch\0")).to_bytes(4, "big") + b"tEXtPaddlePatch\0"
CHUNK = len(START) + 64 + 4  # bytes of the mark: its start, the digest in hexadecimal, the checksum


def marked(png: bytes, place: str) -> bytes:
    """Return the PNG file with the mark of `place`, a text that says which run writes it and under what name."""
    chunk = START + _digest(png, place)
    return png[:HEAD] + chunk + zlib.crc32(chunk[4:]).to_bytes(4, "big") + png[HEAD:]


def is_marked(path: str | Path) -> bool:
    """Whether the file has a mark, for any place; False if it is not a PNG file or cannot be read."""
    return Path(path).suffix.lower() == ".png" and _read(path, HEAD + len(START))[HEAD:] == START


def lies_as_marked(path: str | Path, place: str) -> bool:
    """Whether the file is byte for byte what was written with the mark of `place`; False for a link."""
    if os.path.islink(path) or not is_marked(path):
        return False
    data = _read(path)
    return data == marked(data[:HEAD] + data[HEAD + CHUNK :], place)


def _digest(png: bytes, place: str) -> bytes:
    return hashlib.sha256(os.fsencode(place) + b"\0" + png).hexdigest().encode()


def _read(path: str | Path, size: int = -1) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe might never end
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
