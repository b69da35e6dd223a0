"""The code that runs in Ray's worker processes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import ray

from ..errors import UserError
from ..pictures.decode import Encoded
from ..predictor import Predictor
from ..runtime.program import Runtime
from .parquet import contents
from .parts import Result, Stored


class Scorer:
    """A worker: loads the program once, and scores one part after another.

    Args:
        folder: relative paths are relative to this folder.
        files: stats, model and params file of the export, as in `Predictor.load`.
        runtime: how the program is run.
        batch_size: number of pictures per run.
        workers: number of decoding threads.
        attempts: handle of an actor whose `begin(number)` counts and returns how often this part was begun.
    """

    MOST_ATTEMPTS = 4
    """How often a part is begun at most, if its workers die."""

    def __init__(
        self, folder: str, files: tuple[str, ...], runtime: Runtime, batch_size: int, workers: int, attempts: Any
    ) -> None:
        self.batch_size, self.workers, self.attempts, self.refusal = batch_size, workers, attempts, ""
        try:
            os.chdir(folder)
            self.predictor = Predictor.load(*files, runtime=runtime)
        except OSError as error:
            self.refusal = f"cannot enter {folder}: {error.strerror}; every node must see the same files"
        except UserError as error:  # reported with the first part: if raised here, Ray would start workers repeatedly
            self.refusal = str(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Score parts, given by `number` and the json of their `pictures`; return the json of `Result`s or `error`s."""
        done: dict[str, list[Any]] = {"number": [], "result": [], "error": []}
        for number, pictures in zip(batch["number"].tolist(), batch["pictures"].tolist()):
            result, error = "", self.refusal
            if not error:
                try:
                    result = json.dumps(self.score(number, json.loads(pictures)))
                except UserError as told:
                    error = str(told)
            done["number"].append(number)
            done["result"].append(result)
            done["error"].append(error and f"{error} (on {socket.gethostname()})")
        return done

    def score(self, number: int, pictures: list[Any]) -> Result:
        """Score the pictures of a `Part`. A picture that cannot be read is skipped.

        Raises:
            UserError: the program or a Parquet file fails, or MOST_ATTEMPTS workers have died while scoring the part.
        """
        if begun(self.attempts, number) > self.MOST_ATTEMPTS:
            first, last = (one[-1] if isinstance(one, list) else one for one in (pictures[0], pictures[-1]))
            raise UserError(
                f"{self.MOST_ATTEMPTS} workers died, one after another, while they scored {first} to {last}: one of "
                "these pictures ends the process, or memory is short; then more --cpu_threads makes fewer workers"
            )
        result = Result([], [])
        found = self.predictor.predict(
            opened(pictures),
            self.batch_size,
            self.workers,
            lambda name, error: result.skipped.append((name, str(error))),
        )
        result.scores.extend((one.name, one.score, one.brightness) for one in found)
        return result


def opened(pictures: list[Any]) -> Iterator[Path | Encoded]:
    """Yield the pictures of a `Part` in a form that `Predictor.predict` takes."""
    for stored, some in groupby(pictures, lambda one: isinstance(one, list)):
        if stored:
            yield from contents([Stored(*one) for one in some])
        else:
            yield from map(Path, some)


def begun(attempts: Any, number: int) -> int:
    """Count that a part is begun; return how often it was begun, including this time."""
    return ray.get(attempts.begin.remote(number))
