"""Arrays and a json header in one safetensors file. The arrays need not fit into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..command_line.progress import progress
from ..errors import UserError
from .files import check_replaceable, write_whole
from .header import check_entries, check_header
from .schema import parse_json

FORMAT = 4
HEADER_KEY, DIGEST_KEY = "paddlepatch", "sha256"  # metadata keys: our json header; digest of it and the arrays
START = f'{{"__metadata__": {{"{HEADER_KEY}": '.encode()  # our files begin so, after the 8 bytes of the header's length
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
"""Types that we write: safetensors' names and numpy's."""
BLOCK = 1 << 22  # bytes read at a time
ZIP, PICKLES = b"PK\x03\x04", tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""First bytes of zip files, which PyTorch and numpy write, and of pickles, which `paddle.save` writes."""
PREDECESSOR = {b"params": "model", b"mean": "stats", b"inv_cov": "stats", b"projection": "stats", b"memory": "stats"}
"""First names in the pickles that Anomaly.Paddle saves, and what they are."""


def write_tensors(path: str | Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> Path:
    """Write arrays, which may be memory-mapped, and a json header to one safetensors file.

    Equal input gives equal bytes. The library's own writer is not used, because it needs all arrays as bytes in memory,
    and a gallery of features may be larger. UserError if another program's file is at `path`.
    """
    check_replaceable(path, START, 8)
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    content = json.dumps({**header, "format": FORMAT}, sort_keys=True)  # ASCII: a path in it may be no UTF-8
    metadata = {HEADER_KEY: content, DIGEST_KEY: _digest(content, _in_memory(arrays))}
    entries: dict[str, Any] = {"__metadata__": metadata}
    names = {np.dtype(numpy_name): name for name, numpy_name in TYPES.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # keeps every array aligned
    end = 0
    for name in order:
        start, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        entries[name] = {"dtype": names[arrays[name].dtype], "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(entries, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    blocks = [len(head).to_bytes(8, "little"), head, *(block for name in order for block in _cut(arrays[name]))]
    return write_whole(path, progress(blocks, len(blocks), f"writing {Path(path).name}", "block", delay=1))


def read_header(path: str | Path, kind: str) -> dict[str, Any]:
    """Read only the json header of a file that `write_tensors` wrote; `kind` and errors as in `read_tensors`."""
    return read_outline(path, kind)[0]


def read_outline(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Read the json header as `read_header` does, and the arrays' shapes by name."""
    header, entries, *_ = _read_entries(Path(path), kind)
    return header, {name: tuple(entry["shape"]) for name, entry in entries.items()}


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file that `write_tensors` wrote. The arrays are memory-mapped, so unused parts stay on disk.

    The whole file is read once, block by block, to verify its digest. `kind` ("model", "stats", ...) must be that of
    the header.

    Raises:
        UserError: the file does not exist, is damaged, or is of another kind or format.
    """
    path = Path(path)
    header, entries, start, metadata = _read_entries(path, kind)
    try:
        with safe_open(path, "numpy"):  # the library checks that types, shapes, offsets and file size are consistent
            pass
        whole = np.memmap(path, np.uint8, "c", offset=start)  # "c": copy on write, so the file is never changed
        tensors = {
            name: whole[slice(*entry["data_offsets"])].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries.items()
        }
        blocks = ((name, tensors[name], _blocks(path, start, entries[name])) for name in sorted(tensors))
        found = _digest(metadata[HEADER_KEY], blocks)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, kind, error) from error
    if metadata.get(DIGEST_KEY) != found:
        raise UserError(f"{path} is damaged or was changed: its content is not what was written; make it again")
    return tensors, header


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """sha256 over names, shapes, types and bytes, independent of the dictionary's order."""
    return _digest("", _in_memory(arrays))


def _read_entries(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any], int, dict[str, str]]:
    """Read our header, safetensors' entries by array name, the offset of the arrays in the file, and the metadata."""
    if not path.is_file():
        cure = f"give {path / kind}" if (path / kind).is_file() else "check the path, or make it first"
        raise UserError(f"no {kind} file at {path}: {cure}")
    try:
        with open(path, "rb") as file:
            start = file.read(64)
            # a header of 640 bytes has the first two bytes of a pickle as its length; but then "{" follows at byte 8
            if start.startswith((ZIP, *PICKLES)) and start[8:9] != b"{":
                raise _foreign(path, kind, start)
            file.seek(8)
            length = int.from_bytes(start[:8], "little")
            if length > path.stat().st_size:
                raise ValueError("it is too short for its header")
            entries = parse_json(file.read(length))
        metadata = entries.pop("__metadata__")
        header = parse_json(metadata[HEADER_KEY])
        check_entries(entries, TYPES, path.stat().st_size - 8 - length)
        found, version = header["kind"], header["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, kind, error) from error
    if found != kind:
        raise UserError(f"{path} holds a PaddlePatch {found}, not a {kind}: give the {kind} file")
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, this PaddlePatch reads {FORMAT}: update or train again")
    try:
        check_header(header, kind)
    except (ValueError, UserError) as error:
        raise _damaged(path, kind, error) from error
    return header, entries, 8 + length, metadata


def _in_memory(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray, list[memoryview]]]:
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        yield name, array, _cut(array)


def _digest(header: str, arrays: Iterable[tuple[str, np.ndarray, Iterable[bytes | memoryview]]]) -> str:
    """sha256 of the header and the arrays, given as (name, array of the same type and shape, blocks of its bytes)."""
    digest = hashlib.sha256(header.encode())
    for name, array, blocks in arrays:
        digest.update(f"{name} {array.dtype.str} {tuple(array.shape)}\n".encode())
        for block in progress(blocks, -(-array.nbytes // BLOCK), f"checking {name}", "block", delay=1):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, start: int, entry: dict[str, Any]) -> Iterator[bytes]:
    """Read an array's bytes in blocks; not memory-mapped, because mapped pages count as memory of this process."""
    begin, end = entry["data_offsets"]
    with open(path, "rb") as file:
        file.seek(start + begin)
        for left in range(end - begin, 0, -BLOCK):
            yield file.read(min(left, BLOCK))


def _cut(array: np.ndarray) -> list[memoryview]:
    """Return an array's bytes in blocks, without copying them."""
    whole = array.reshape(-1).view(np.uint8).data
    return [whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)]


def _foreign(path: Path, kind: str, start: bytes) -> UserError:
    """Return the error for another program's file, whose type is known from its first bytes.

    It is not read further, because reading a pickle could run code.
    """
    found = next((what for name, what in PREDECESSOR.items() if name in start), None)
    if start.startswith(ZIP):
        name = "a zip archive, as PyTorch writes its pickles"
    elif found:
        name = f"a {found} file of Anomaly.Paddle, a pickle"
    else:
        name = "a pickle, such as .pdparams weights"
    cure = "train again with train.py" if kind == "model" else "train and export again with export_model.py"
    return UserError(f"{path} is {name}, not a PaddlePatch {kind}; it is not read, as pickles can run code: {cure}")


def _damaged(path: Path, kind: str, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"cannot read {kind} file {path}: {error.strerror}; check the path")
    return UserError(f"{path} is damaged or no PaddlePatch {kind} file ({error}): make it again")
