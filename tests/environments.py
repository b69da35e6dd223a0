"""An environment that holds what the runner needs and nothing else, without downloading it again."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

# setuptools: Paddle imports it without always requiring it
RUNNER = ("paddlepaddle", "setuptools", "numpy", "opencv-python-headless", "safetensors")


def closure(names: list[str]) -> dict[str, metadata.Distribution]:
    """The installed distributions of these names and all that they require."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        needed = map(Requirement, found[name].requires or [])
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def bare_environment(folder: Path) -> Path:
    """Make an environment in `folder` with links to RUNNER and what these require; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin/python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    for distribution in closure(list(RUNNER)).values():
        for top in {path.parts[0] for path in distribution.files or () if path.parts[0] != ".."}:
            source = Path(sysconfig.get_path("purelib")) / top
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    absent = (
        "tqdm",
        "sklearn",
        "skimage",
        "pandas",
        "numba",
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "ray",
        "pyarrow",
    )
    ask = f"from importlib.util import find_spec; print([name for name in {absent} if find_spec(name)])"
    assert subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True).stdout == "[]\n"
    return python
