"""Description of the machine and the packages of a run."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from deploy.pictures.stream import cores

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
PACKAGES = (
    *("paddlepaddle", "numpy", "numba", "opencv-python-headless", "onnx", "onnxruntime", "openvino", "faiss-cpu"),
    *("anomalib", "torch"),
)


def describe() -> dict[str, Any]:
    """Return CPU model, cores, cache, memory, CPU flags that matter for speed, and versions (None: not installed)."""
    return {"cpu": _cpu(), "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}}


def version(package: str) -> str | None:
    """Return the installed version of a package, by its name on PyPI."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def data_sha256(files: Iterable[Path]) -> str:
    """Return a fingerprint of the files' contents, in the given order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _cpu() -> dict[str, Any]:
    """Return what the system says about the CPU; everything is known on Linux only."""
    found: dict[str, str] = {}
    for file in (Path("/proc/cpuinfo"), Path("/proc/meminfo")):
        for line in file.read_text().splitlines() if file.is_file() else []:
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
    flags = found.get("flags", "").split()
    return {
        "model": found.get("model name", platform.processor() or platform.machine()),
        "family_model_stepping": " ".join(found.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cores": cores(),
        "cache": found.get("cache size"),
        "memory": found.get("MemTotal"),
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.platform(),
    }
