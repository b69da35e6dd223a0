"""One whole fit in a process of its own, for its time and its peak memory.

python -m benchmarks.fit_alone reads the job as JSON from its input and prints seconds and MB as JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deploy.errors import UserError, run_script
from deploy.pictures import list_pictures
from deploy.preprocess import Preprocess
from deploy.program import Runtime
from models.patchcore import PatchCore

STATUS = Path("/proc/self/status")


def fit_alone(job: dict[str, Any]) -> dict[str, float]:
    """`seconds`, `peak_mb` and `before_mb` of PatchCore on the first `count` pictures in `folder`."""
    command = [sys.executable, "-m", "benchmarks.fit_alone"]
    done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb() -> float:
    """The largest resident size of this process so far. Not ru_maxrss, which begins with the parent's size on Linux."""
    if not STATUS.is_file():
        raise UserError(f"no {STATUS}: peak memory is read there, which needs Linux; leave the stage scaling out")
    return int(re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), re.M)[1]) * 1024 / 1e6


def main() -> None:
    """Fit, calibration included."""
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
