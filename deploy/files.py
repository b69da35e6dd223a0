"""Files that appear whole or not at all, and their fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as tensors_to_bytes

from .errors import UserError

FORMAT = 1  # of the header; raised when older code could misread it
HEADER_KEY = "paddlepatch"  # one metadata key only: safetensors writes several in random order


def make_folder(path: str | Path) -> Path:
    """Create `path` and its parents; UserError when that is not possible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {path}: {error.strerror}; choose another place or free it") from error
    return path


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write `data` beside `path`, flush it to disk, then rename: readers see the old file or the new one."""
    path = Path(path)
    make_folder(path.parent)
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            name = file.name
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; nothing was changed there") from error
    finally:
        if name is not None and os.path.exists(name):
            os.unlink(name)
    return path


@contextlib.contextmanager
def scratch_folder(beside: str | Path | None = None) -> Iterator[Path]:
    """A temporary folder, inside `beside` when its files will be renamed to there, that is gone afterwards."""
    if beside is not None:
        make_folder(beside)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".paddlepatch-", dir=beside))
    except OSError as error:
        raise UserError(f"cannot write in {beside or tempfile.gettempdir()}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_tensors(path: str | Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> Path:
    """Write arrays and a json header as one safetensors file; equal input gives equal bytes."""
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    text = json.dumps(
        {**header, "format": FORMAT, "tensors_sha256": fingerprint(arrays)}, sort_keys=True, ensure_ascii=False
    )
    return write_whole(path, tensors_to_bytes(arrays, metadata={HEADER_KEY: text}))


def read_header(path: str | Path, kind: str) -> dict[str, Any]:
    """The json header of what `write_tensors` wrote, without its arrays; `kind` and errors as in `read_tensors`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no {kind} file at {path}: check the path, or make it first")
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("it is too short for its header")
            outer = json.loads(file.read(length))
        header = json.loads(outer["__metadata__"][HEADER_KEY])
        found, version, _ = header["kind"], header["format"], header["tensors_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, kind, error) from error
    if found != kind:
        raise UserError(f"{path} holds a PaddlePatch {found}, not a {kind}: give the {kind} file")
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, this PaddlePatch reads {FORMAT}: update or train again")
    return header


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote. `kind` ("model", "stats") must be the header's; UserError otherwise."""
    header = read_header(path, kind)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, kind, error) from error
    if header.pop("tensors_sha256") != fingerprint(tensors):
        raise UserError(f"{path} is damaged: its arrays are not those that were written; make it again")
    return tensors, header


def _damaged(path: str | Path, kind: str, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or no PaddlePatch {kind} file ({error}): make it again")


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """sha256 over names, shapes, types and bytes, independent of the dictionary's order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
