"""The report of `--enable_benchmark`, in the format of Paddle's AutoLog; AutoLog need not be installed."""

from __future__ import annotations

import platform
from array import array
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .program import Runtime, paddle  # program.py imports paddle without its notices

STAGES = ("preprocess", "inference", "postprocess")
PERCENTILES = (50, 90, 99)


class Times:
    """Seconds of every picture in every stage."""

    def __init__(self) -> None:
        self.of = {stage: array("d") for stage in STAGES}

    def add(self, stage: str, seconds: float) -> None:
        """Add the seconds of one picture in one stage."""
        self.of[stage].append(seconds)

    def report(self, model_name: str, runtime: Runtime, batch_size: int, total: float) -> list[str]:
        """Return AutoLog's lines, with percentiles of each stage."""
        gpu = runtime.use_gpu
        sections: dict[str, dict[str, Any]] = {
            "Env info": {"OS_version": platform.platform(), "python_version": platform.python_version()},
            "Paddle info": {"paddle_version": paddle.__version__, "paddle_commit": paddle.version.commit},
            "Conf info": {
                "runtime_device": "gpu" if gpu else "cpu",
                "ir_optim": runtime.ir_optim,
                "enable_memory_optim": False,
                "enable_tensorrt": runtime.tensorrt,
                "enable_mkldnn": runtime.onednn and not gpu,
                "cpu_math_library_num_threads": runtime.threads,
            },
            "Model info": {"model_name": model_name, "precision": runtime.precision},
            "Data info": {
                "batch_size": batch_size,
                "input_shape": "dynamic",
                "data_num": len(self.of["inference"]),
            },
        }
        lines = []
        for title, values in sections.items():
            lines.append(f" {title} ".center(55, "-"))
            lines += [f" {name}: {value}" for name, value in values.items()]
        means = ", ".join(f"{stage}_time(ms): {1000 * np.mean(times):.4f}" for stage, times in self.of.items())
        peak = peak_mb()
        rss = None if peak is None else round(peak, 4)
        lines.append(" Perf info ".center(55, "-"))
        lines.append(f" cpu_rss(MB): {rss}, gpu_rss(MB): None, gpu_util: None%")
        lines += [f" total time spent(s): {total:.4f}", f" {means}"]
        for stage, times in self.of.items():
            shares = ", ".join(f"p{p}: {1000 * np.percentile(times, p):.4f}" for p in PERCENTILES)
            lines.append(f" {stage}_time(ms) {shares}")
        stamp = datetime.now().strftime("%Y/%m/%d %H:%M:%S")
        return [f"[{stamp}] root INFO: {line}" for line in lines]


def peak_mb() -> float | None:
    """Largest resident size of this process so far, in MB; None if the system has no /proc/self/status.

    It is not read from ru_maxrss, which starts with the parent's size on Linux.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e6
