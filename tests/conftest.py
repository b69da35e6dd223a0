"""What the tests share: generated pictures, one trained run, and the scripts run as users run them."""

from __future__ import annotations

import csv
import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripts import ROOT, run, run_process
from sharing import share_between_models
from warm_python import ROOMS, WarmPython, warm_python

from datasets.sample import write_sample
from deploy.storage.tensors import read_tensors

__all__ = ["ROOT", "run", "run_process"]
SHARED = ROOT.parent / "shared"
WEIGHTS = SHARED / "weights" / "resnet18.pdparams"
MVTEC, OTHER = SHARED / "data" / "mvtec", SHARED / "data" / "other"

needs_real = pytest.mark.skipif(
    not (WEIGHTS.is_file() and MVTEC.is_dir() and OTHER.is_dir()),
    reason=f"no real data and weights in {SHARED}: those tests are skipped",
)
LONGEST = ("real", "tipc", "readme", "app_browser", "watch", "layouts", "bench", "compact", "notebook", "ensemble")
"""Files that go first, so that at the end no process is left alone with one of them."""
FAST = [
    "--arch",
    "compact",
    "--weights",
    "random",
    "--layers",
    "layer2",
    "layer3",
    "--k",
    "2",
    "--crop_size",
    "96",
    "--resize",
    "112",
]


def pytest_configure(config: pytest.Config) -> None:
    """Give every process of xdist a core of its own, wait for no disk, and trace a program once, without stacks.

    Threads of two processes would wait for each other. No test loses power between a file's last byte and its name.
    """
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})
    os.fsync = lambda descriptor: None
    share_between_models()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files, not the tests in them."""
    rank = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: collecting garbage need not go through it again and again."""
    gc.freeze()


def done(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """The result, which must be a success."""
    assert result.returncode == 0, f"{result.args}\n{result.stdout}\n{result.stderr}"
    return result


def refused(result: subprocess.CompletedProcess, *words: str) -> str:
    """The one line on stderr of a refusal, which must hold all `words` and no traceback."""
    assert result.returncode == 2, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Where a file cannot have more bytes than this, which stands in for a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def fitted(path: Path) -> tuple[dict[str, object], dict[str, bytes]]:
    """All that a model file holds but the command that it was written by: header and arrays."""
    tensors, header = read_tensors(path, "model")
    del header["command"]
    return header, {name: value.tobytes() for name, value in tensors.items()}


def chain_checkout(folder: Path) -> Path:
    """Make a checkout to run the test chain in: scripts and packages are linked to, since it writes nothing there."""
    shutil.copytree(ROOT / "test_tipc", folder / "test_tipc", ignore=shutil.ignore_patterns("output", "data", "*.pyc*"))
    for path in (*ROOT.glob("*.py"), *(ROOT / room for room in ROOMS)):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Processes of their own that need not import Paddle first."""
    with warm_python(tmp_path_factory.mktemp("warm")) as server:
        yield server


@pytest.fixture(scope="session")
def run_warm(warm: WarmPython) -> Callable[..., subprocess.CompletedProcess]:
    """`run_process` without the seconds that importing Paddle takes: a script, or -c and code."""

    def start(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        return subprocess.run(list(map(str, [warm.program, *words])), cwd=cwd, capture_output=True, text=True)

    return start


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature data set in MVTec layout: washer and fabric."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder, seed=3, train=8, good=3, bad=2, categories=["washer", "fabric"])
    return folder


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """train.py run once on washer, evaluated and exported: `.output`, `.run`, `.model`, `.export`, `.words`.

    `.named` are the options that other scripts find the model by.

    All tests share it, in any order: `eval.py` and `train.py` write elsewhere (`--save_path tmp_path`).
    """
    output = tmp_path_factory.mktemp("output")
    words = ["--data_path", data, "--category", "washer", *FAST, "--save_path", output]
    done(run("train.py", *words, "--eval", "--eval_PRO"))
    folder = output / "patchcore_compact_2"
    named = ["--category", "washer", "--arch", "compact", "--k", "2", "--save_path", output]
    done(run("export_model.py", *named))
    export = folder / "washer" / "export"
    kept = [folder / name for name in ("washer.safetensors", "washer_seed521.csv", "washer/eval.csv")]
    before = [path.read_bytes() for path in kept]
    yield SimpleNamespace(named=named, output=output, run=folder, model=kept[0], export=export, words=words, data=data)
    assert [path.read_bytes() for path in kept] == before, "a test wrote over what all tests share"
