"""numpy's matrix product in a process of its own, because BLAS reads the number of threads when it starts.

python -m benchmarks.gemm prints GFLOP/s, the best of several products.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Callable

import numpy as np

SIZE = 2048
REPEATS = 8


def numpy_rate(threads: int) -> float:
    """Return GFLOP/s of numpy's fp32 matrix product on `threads` threads, measured in a process of its own."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-m", "benchmarks.gemm"]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def best_rate(work: float, call: Callable[[], object]) -> float:
    """Return `work` (in billions) per second of the fastest of REPEATS calls; two calls before are not counted."""
    times = []
    for _ in range(REPEATS + 2):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return work / min(times[2:])


if __name__ == "__main__":
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(2))
    output = np.empty_like(left)
    print(best_rate(2e-9 * SIZE**3, lambda: np.matmul(left, right, out=output)))
