"""Runs the project's scripts as processes, one thread on one core each, and measures time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UserError

from .costs import Run

ROOT = Path(__file__).parents[1]
ONE = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
THREADS = ("--cpu_threads", "1", "--num_workers", "1")


@dataclass
class Scripts:
    """Runs `train.py`, `export_model.py` and `infer.py` on parts of one category's pictures.

    Args:
        folder: pictures (as links), models, exports and tables are written there.
        pictures: good pictures.
        model: options of train.py that define the model.
    """

    folder: Path
    pictures: list[Path]
    model: Sequence[str]

    @property
    def output(self) -> Path:
        """Folder of the models."""
        return self.folder / "output"

    def train(self, count: int, categories: int = 1, launched: bool = False) -> Run:
        """Fit `categories` of `count` pictures each, in one process or in two that paddle.distributed.launch starts."""
        names = [f"fit{count}_{number}{'_two' * launched}_{categories}" for number in range(categories)]
        for name in names:
            self.link(count, self.folder / "data" / name / "train/good")
        launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", self.folder / "log"]
        words = ["train.py", "--data_path", self.folder / "data", "--category", ",".join(names), *self.model, *THREADS]
        words += ["--cpu", "--save_pic", "False", "--save_model_subfolder", "False", "--save_path", self.output]
        return process([*(launcher if launched else ()), *words], count, categories, 2 if launched else 1)

    def model_of(self, count: int) -> Path:
        """Return the path of the model that `train` wrote."""
        return self.output / f"fit{count}_0_1.safetensors"

    def export(self, count: int) -> Path:
        """Export that model; return the folder."""
        process(
            ["export_model.py", "--model_path", self.model_of(count), "--cpu", "--save_dir", self.folder / "export"]
        )
        return self.folder / "export"

    def infer(self, count: int, heat_maps: bool = False) -> Run:
        """Score `count` pictures with the export."""
        name = f"scored{count}_{heat_maps}"
        place = self.link(count, self.folder / name)
        words = ["infer.py", "--stats", self.folder / "export/stats", "--input_file", place, *THREADS]
        return process([*words, "--save_pic", str(heat_maps), "--save_path", self.folder / "scores" / name], count)

    def link(self, count: int, folder: Path) -> Path:
        """Fill a folder with links to `count` pictures, evenly chosen; if there are fewer, some are linked again."""
        folder.mkdir(parents=True)
        for number in range(count):
            picture = self.pictures[number * len(self.pictures) // count % len(self.pictures)]
            (folder / f"{number:05d}{picture.suffix}").symlink_to(picture.resolve())
        return folder


def process(words: Sequence[object], pictures: int = 0, categories: int = 1, cores: int = 1) -> Run:
    """Run Python with these words on the first `cores` cores, and wait; UserError with its output if it fails."""
    ours = sorted(os.sched_getaffinity(0))[:cores]
    if len(ours) < cores:
        raise UserError(f"{cores} processes need as many cores, and there is {len(ours)}: give --checks nothing")
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        started = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **ONE},
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, ours),
        )
        _, status, usage = os.wait4(started.pid, 0)
        wall = time.perf_counter() - begin
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace").strip().splitlines()
            raise UserError(f"{words[0]} ended with {started.returncode}: {text[-1] if text else 'it said nothing'}")
    return Run(pictures, categories, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024 / 1e6)
