"""A whole fit in a process of its own, to measure its time and peak memory.

python -m benchmarks.fit_alone reads the job as JSON from its input and prints seconds and MB as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deploy.command_line.script import run_script
from deploy.errors import UserError
from deploy.pictures.listing import list_pictures
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.autolog import peak_mb
from deploy.runtime.program import Runtime
from models.patchcore import PatchCore


def fit_alone(job: dict[str, Any]) -> dict[str, float]:
    """Fit PatchCore on the first `count` pictures in `folder`; return `seconds`, `peak_mb` and `before_mb`."""
    command = [sys.executable, "-m", "benchmarks.fit_alone"]
    done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Read the job, fit with calibration, and print the result."""
    if peak_mb() is None:
        raise UserError("this system does not tell peak memory, Linux does: leave the stage scaling out")
    job = json.loads(sys.stdin.read())
    pictures = list_pictures(Path(job["folder"]))[: job["count"]]
    runtime = Runtime(threads=job["threads"])
    preprocess = Preprocess(job["resize"], job["crop_size"])
    model = PatchCore(job["arch"], job["k"], None, preprocess, job["weights"], job["seed"], runtime)
    before, begin = peak_mb(), time.perf_counter()
    model.fit(pictures)
    print(json.dumps({"seconds": time.perf_counter() - begin, "peak_mb": peak_mb(), "before_mb": before}))


if __name__ == "__main__":
    run_script(main)
