"""Reads the size of a picture from the file's header, before a decoder allocates memory, and finds truncated files."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

PNG, JPEG, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", {b"II": "<", b"MM": ">"}
JP2_BOX, JP2_STREAM = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's markers of segments that hold height and width
SCAN, END = 0xDA, 0xD9
DEFLATE = (8, 32946)  # TIFF's compressions that have a checksum
MOST_PIECES = 1 << 20  # largest number of strips or tiles of a TIFF
WIDTH, HEIGHT, BITS, COMPRESSION = 256, 257, 258, 259  # TIFF's tags
PIECES = ((273, 279), (324, 325))
"""TIFF's tags for offsets and lengths, of strips and of tiles."""
TAGS = {WIDTH, HEIGHT, BITS, COMPRESSION, *PIECES[0], *PIECES[1]}


class Stated(NamedTuple):
    """Size of a picture according to the file's header."""

    width: int
    height: int
    bits: int = 8
    """Bits per channel."""


def stated(data: bytes) -> Stated | None:
    """Read width, height and bits from the file's header; None for a format that is not supported.

    Supported are PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000 and PNM. ValueError if the header is damaged or cut short.
    """
    try:
        if data[:8] == PNG:
            return Stated(*struct.unpack(">IIB", data[16:25]))
        if data[:3] == JPEG:
            return _jpeg(data)
        if data[:2] in TIFF and data[2:4] in (b"*\0", b"\0*"):
            tags = _tiff_tags(data)
            return Stated(tags[WIDTH][0], tags[HEIGHT][0], max(tags.get(BITS, [1])))
        if data[:2] == b"BM":
            short = data[14:18] == b"\x0c\0\0\0"
            width, height = struct.unpack("<HH" if short else "<ii", data[18 : 22 if short else 26])
            return Stated(abs(width), abs(height))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return Stated(*struct.unpack("<HH", data[6:10]))
        if data[:8] == JP2_BOX or data[:4] == JP2_STREAM:
            return _jpeg_2000(data)
        if re.match(rb"P[1-6]\s", data[:3]):
            numbers = [int(n) for n in re.findall(rb"\d+", re.sub(rb"#[^\n]*", b"", data[2:512]))[:3]]
            return Stated(numbers[0], numbers[1], 16 if data[1:2] not in b"14" and numbers[2] > 255 else 8)
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError("its header is damaged or cut short") from error
    return None


def check_whole(data: bytes, told: Stated) -> None:
    """Raise ValueError if a PNG, JPEG or TIFF file is cut short, or if a TIFF's checksums are wrong.

    Decoders would fill the missing parts with grey, without an error. Flipped bits in the data of a JPEG cannot be
    detected.
    """
    if data[:8] == PNG:
        _check_png(data)
    if data[:3] == JPEG:
        _check_jpeg(data)
    if data[:2] in TIFF:
        _check_tiff(data, told)


def _check_png(data: bytes) -> None:
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        # a chunk's length must be checked: OpenCV would allocate memory for any length
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 8 > len(data):
            raise ValueError("the file is cut short; copy it again")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each segment of a JPEG up to the first scan: its marker, and the begin and end of its content."""
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            raise ValueError("the file is cut short or damaged; copy it again")
        marker = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, at + 2 + length
        if marker in (SCAN, END):
            return
        at += 2 + max(length, 2)


def _jpeg(data: bytes) -> Stated:
    for marker, start, _ in _segments(data):
        if marker in FRAMES:
            bits, height, width = struct.unpack(">BHH", data[start : start + 5])
            return Stated(width, height, bits)
    raise KeyError("size")


def _check_jpeg(data: bytes) -> None:
    marker, _, end = list(_segments(data))[-1]  # end markers of thumbnails are in earlier segments and do not count
    if marker != SCAN or data.find(b"\xff\xd9", end) < 0:
        raise ValueError("the file is cut short; copy it again")


def _webp(data: bytes) -> Stated:
    kind = data[12:16]
    if kind == b"VP8X":
        return Stated(*(int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27)))
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return Stated((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack("<HH", data[26:30])
    return Stated(width & 0x3FFF, height & 0x3FFF)


def _jpeg_2000(data: bytes) -> Stated:
    at = data.find(JP2_STREAM)
    if at < 0:
        raise KeyError("size")
    right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    return Stated(right - left, bottom - top)


def _tiff_tags(data: bytes) -> dict[int, list[int]]:
    """Values of those TAGS that are in a TIFF's first directory."""
    order = TIFF[data[:2]]
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack(order + "HHI", data[entry : entry + 8])
        if tag not in TAGS or tag in tags or kind not in (3, 4) or not 0 < number <= MOST_PIECES:
            continue
        form, size = f"{order}{number}{'H' if kind == 3 else 'I'}", number * (2 if kind == 3 else 4)
        at = entry + 8 if size <= 4 else struct.unpack(order + "I", data[entry + 8 : entry + 12])[0]
        tags[tag] = list(struct.unpack(form, data[at : at + size]))
    return tags


def _check_tiff(data: bytes, told: Stated) -> None:
    tags = _tiff_tags(data)
    starts, sizes = next(((tags[a], tags[b]) for a, b in PIECES if a in tags and b in tags), ([], []))
    if any(start + size > len(data) for start, size in zip(starts, sizes)) or sum(sizes) > len(data):
        raise ValueError("the file is cut short; copy it again")
    if tags.get(COMPRESSION, [1])[0] in DEFLATE:
        left = 1 << 20 | told.width * told.height * 32  # a picture cannot have more bytes than this
        for start, size in zip(starts, sizes):
            left -= _inflated(data[start : start + size], left)


def _inflated(piece: bytes, most: int) -> int:
    """Number of bytes of deflated data after inflation; stops above `most`.

    Raises:
        ValueError: the data are damaged, or end too early.
    """
    reader, count = zlib.decompressobj(), 0
    try:
        while piece and not reader.eof and count <= most:
            count += len(reader.decompress(piece, 1 << 20))
            piece = reader.unconsumed_tail
    except zlib.error as error:
        raise ValueError("its data are damaged; copy it again") from error
    if not reader.eof and count <= most:
        raise ValueError("its data end too early; copy it again")
    return count
