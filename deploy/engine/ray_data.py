"""Scoring with Ray Data: the pictures are divided into parts for the workers, and finished parts are kept."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from ..calibration import Calibration
from ..errors import UserError
from ..pictures.decode import MOST_VARIABLE, most_pixels
from ..pictures.listing import list_pictures
from ..pictures.preprocess import Preprocess
from ..pictures.stream import cores
from ..predictor import Prediction, file_sha256, read_export
from ..runtime.program import Runtime
from ..storage.files import exclusive
from .parquet import listed, parquet_files
from .parts import Listed, Part, Store, cut
from .scorer import Scorer

GROUP = 4
"""Cores of a worker if --cpu_threads is not given; fewer if the smallest node has fewer."""
OBJECTS = 256 << 20
"""Bytes of shared memory of a cluster that is started here. Scores and paths pass through it, but no pictures."""
PATIENCE = 10.0
"""Seconds to wait for the answer of a cluster."""
NO_PIXELS = np.empty((0, 0, 3), np.uint8)


class RayPredictor:
    """Replaces `Predictor` in infer.py; the program runs in Ray's workers, and predictions have no maps.

    Args:
        stats, model_file, params_file: as in `Predictor.load`; every node must see the files at the same paths.
        runtime: how a worker runs the program; `threads` is the number of cores of each worker.
        folder: keeps finished parts until `finish`, so that a stopped run can continue.

    Raises:
        UserError: as in `Predictor.load`.
    """

    def __init__(
        self,
        stats: str | Path,
        model_file: str | Path | None,
        params_file: str | Path | None,
        runtime: Runtime,
        folder: str | Path,
    ) -> None:
        export = read_export(stats, model_file, params_file)
        self.header, self.runtime = export.header, runtime
        self.preprocess = Preprocess.from_dict(self.header["preprocess"])
        self.calibration = Calibration.from_dict(self.header["calibration"])
        self.shapes = {name: value.shape for name, value in export.tensors.items()}
        self._files = tuple(map(str, (stats, export.model_file, export.params_file)))
        self._store = Store(folder)

    def pictures(self, place: str | Path) -> list[Listed]:
        """List the pictures at `place`: those of Parquet files (see `parquet.listed`), or those of `list_pictures`."""
        files = parquet_files(place)
        return listed(files) if files else [*list_pictures(place)]

    def predict(
        self,
        pictures: Sequence[Listed],
        batch_size: int,
        workers: int | None,
        on_bad: Callable[[str, UserError], None],
    ) -> Iterator[Prediction]:
        """Score pictures; yield predictions in order while Ray continues with other parts. See `Predictor.predict`.

        Raises:
            UserError: the cluster cannot be reached or is too small, a worker cannot run the program, or workers died
                repeatedly. Finished parts are kept.
        """
        runtime = self.runtime
        numbers = runtime.use_gpu, runtime.onednn, runtime.precision, runtime.tensorrt, runtime.ir_optim
        parts = [*cut(pictures, batch_size, [file_sha256(self._files[0]), numbers, most_pixels()])]
        missing = [part for part in parts if part not in self._store]
        if len(missing) < len(parts):
            print(f"{len(parts) - len(missing)} of {len(parts)} parts were finished before", flush=True)
        arriving = self._scored(list(dict.fromkeys(missing)), batch_size, workers)
        with exclusive(self._store.folder), closing(arriving):
            for part in parts:
                while part not in self._store:
                    finished, result = next(arriving)
                    self._store.write(finished, result)
                found = self._store.read(part)
                for name, why in found.skipped:
                    on_bad(name, UserError(why))
                for name, score, brightness in found.scores:
                    yield Prediction(name, score, NO_PIXELS[..., 0], NO_PIXELS, (0, 0), brightness)

    def finish(self) -> None:
        """Remove the parts; to be called when their scores are in a table."""
        self._store.remove()

    def _scored(self, parts: Sequence[Part], batch_size: int, workers: int | None) -> Iterator[tuple[Part, str]]:
        """Score parts with Ray; yield each part, in the order in which they finish, with the json of its `Result`."""
        with _cluster():
            count, threads = _pool(self.runtime)
            count = min(count, len(parts))
            print(f"Ray {ray.__version__}: workers {count}, cores of each {threads}", flush=True)
            options = {
                "folder": os.getcwd(),
                "files": self._files,
                "runtime": replace(self.runtime, threads=threads),
                "batch_size": batch_size,
                "workers": threads if workers is None else workers,
                "attempts": _attempts(),
            }
            items = [{"number": number, "pictures": part.pictures} for number, part in enumerate(parts)]
            scored = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                Scorer,
                batch_size=1,
                fn_constructor_kwargs=options,
                compute=ray.data.ActorPoolStrategy(size=count),
                num_cpus=threads,
                num_gpus=1 if self.runtime.use_gpu else None,
            )
            with _told():
                for row in scored.iter_rows():
                    if row["error"]:
                        raise UserError(row["error"])
                    yield parts[row["number"]], row["result"]


def _attempts() -> Any:
    """Start an actor that counts how often each part was begun.

    It is needed because Ray itself retries without end a part that kills its workers.
    """

    @ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    class Attempts:  # defined in the function, so that its process need not import this module and Paddle
        def __init__(self) -> None:
            self.begun: dict[int, int] = {}

        def begin(self, number: int) -> int:
            self.begun[number] = self.begun.get(number, 0) + 1
            return self.begun[number]

    return Attempts.remote()


def _pool(runtime: Runtime) -> tuple[int, int]:
    """Return how many workers the cluster has room for, and the cores of each; UserError if there is no room."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    each = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    if not each:
        raise UserError("the Ray cluster has no node with a CPU for workers")
    threads = runtime.threads or min(GROUP, *each)
    if runtime.use_gpu:
        count = sum(int(min(node.get("GPU", 0), node.get("CPU", 0) // threads)) for node in nodes)
    else:
        count = sum(cpus // threads for cpus in each)
    if not count:
        wanted = f"{threads} cores and a GPU" if runtime.use_gpu else f"{threads} cores"
        raise UserError(f"--cpu_threads: no node of the Ray cluster has {wanted} for a worker (cores: {each})")
    return count, threads


@contextmanager
def _cluster() -> Iterator[None]:
    """Connect to the cluster of $RAY_ADDRESS, or start one on this machine that ends with this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": address or "local", "runtime_env": _environment()}
    if not address:
        options.update({"num_cpus": cores(), "object_store_memory": OBJECTS, "include_dashboard": False})
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        if address:
            _reach(address)
        with _stderr_closed():
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = f"RAY_ADDRESS {address}: no cluster there" if address else "Ray cannot start here"
        raise UserError(f"{where}: {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError if nothing answers at HOST:PORT; Ray itself would try for minutes, without a message."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.port:  # the address `auto` has no port
        socket.create_connection((place.hostname, place.port), PATIENCE).close()


def _environment() -> dict[str, Any]:
    """Return the environment of the workers: this package in this version, and the limit of pixels.

    MALLOC_ARENA_MAX: Ray runs `Scorer` in a thread. All threads but the first have heaps of 64 MB; larger blocks would
    be returned to the system after every run and requested again, which costs 45 % more CPU time. With a single arena,
    the process keeps them.
    """
    package = {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__"]}
    return {**package, "env_vars": {MOST_VARIABLE: str(most_pixels()), "MALLOC_ARENA_MAX": "1"}}


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Suppress stderr: Ray prints a notice that it uses RAY_BACKEND_LOG_LEVEL. Errors are still raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _told() -> Iterator[None]:
    """Turn errors of the cluster into a UserError; exceptions in `Scorer` are bugs and are not changed."""
    try:
        yield
    except RayTaskError:
        raise
    except RayError as error:
        if "creation task" in str(error):
            raise
        raise UserError(f"Ray: {_first_line(error)}; finished parts are kept: the same command goes on") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
