"""Arrays and a json header in one safetensors file, neither of which has to fit into memory at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from .errors import UserError
from .files import write_whole

FORMAT = 1  # of the header; raised when older code could misread it
HEADER_KEY = "paddlepatch"  # our header, as json, in the file's metadata
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
"""safetensors' names of the types that we write, and numpy's."""
BLOCK = 1 << 22  # bytes read at a time


def write_tensors(path: str | Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> Path:
    """Write arrays, memory-mapped ones included, and a json header as one safetensors file; equal input, equal bytes.

    The library's own writer wants all arrays as bytes in memory, which a gallery of features would not fit into.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    content = {**header, "format": FORMAT, "tensors_sha256": fingerprint(arrays)}
    entries: dict[str, Any] = {"__metadata__": {HEADER_KEY: json.dumps(content, sort_keys=True, ensure_ascii=False)}}
    names = {np.dtype(numpy_name): name for name, numpy_name in TYPES.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # keeps every array aligned
    end = 0
    for name in order:
        start, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        entries[name] = {"dtype": names[arrays[name].dtype], "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(entries, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    return write_whole(path, [len(head).to_bytes(8, "little"), head, *(_bytes(arrays[name]) for name in order)])


def read_header(path: str | Path, kind: str) -> dict[str, Any]:
    """The json header of what `write_tensors` wrote, without its arrays; `kind` and errors as in `read_tensors`."""
    return _read_entries(Path(path), kind)[0]


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote; the arrays are memory-mapped, so what is not used stays on disk.

    The whole file is read once, block by block, to verify it. `kind` ("model", "stats", ...) must be the header's.

    Raises:
        UserError: no such file, damaged, or of another kind or format.
    """
    path = Path(path)
    header, entries, start = _read_entries(path, kind)
    try:
        with safe_open(path, "numpy"):  # the library's checks: types, shapes and offsets fit together and the file
            pass
        whole = np.memmap(path, np.uint8, "c", offset=start)  # "c": nothing written reaches the file
        tensors = {
            name: whole[slice(*entry["data_offsets"])].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries.items()
        }
        stored = _digest((name, tensors[name], _blocks(path, start, entries[name])) for name in sorted(tensors))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, kind, error) from error
    if header.pop("tensors_sha256") != stored:
        raise UserError(f"{path} is damaged: its arrays are not those that were written; make it again")
    return tensors, header


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """sha256 over names, shapes, types and bytes, independent of the dictionary's order."""
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    return _digest((name, array, [_bytes(array)]) for name, array in contiguous.items())


def _read_entries(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Our header, safetensors' entries by array name, and where the arrays begin."""
    if not path.is_file():
        raise UserError(f"no {kind} file at {path}: check the path, or make it first")
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("it is too short for its header")
            entries = json.loads(file.read(length))
        header = json.loads(entries.pop("__metadata__")[HEADER_KEY])
        found, version, _ = header["kind"], header["format"], header["tensors_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, kind, error) from error
    if found != kind:
        raise UserError(f"{path} holds a PaddlePatch {found}, not a {kind}: give the {kind} file")
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, this PaddlePatch reads {FORMAT}: update or train again")
    return header, entries, 8 + length


def _digest(arrays: Iterable[tuple[str, np.ndarray, Iterable[bytes | memoryview]]]) -> str:
    """sha256 of (name, an array of the right type and shape, its bytes)."""
    digest = hashlib.sha256()
    for name, array, blocks in arrays:
        digest.update(f"{name} {array.dtype.str} {tuple(array.shape)}\n".encode())
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, start: int, entry: dict[str, Any]) -> Iterator[bytes]:
    """An array's bytes, read rather than mapped: mapped pages would count as memory of this process."""
    begin, end = entry["data_offsets"]
    with open(path, "rb") as file:
        file.seek(start + begin)
        for left in range(end - begin, 0, -BLOCK):
            yield file.read(min(left, BLOCK))


def _bytes(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _damaged(path: Path, kind: str, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or no PaddlePatch {kind} file ({error}): make it again")
