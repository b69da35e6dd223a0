"""anomalib's PatchCore and PaDiM on the same pictures, backbone and weights, run by anomalib's own engine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.category import GOOD, Category
from models.backbones.backbone import Backbone

from .anomalib_worker import ANSWER
from .subject import BATCH, Subject

LAYERS = {"Patchcore": ("layer2", "layer3"), "Padim": ("layer1", "layer2", "layer3")}


class Anomalib:
    """A new model of anomalib, in a process of its own because torch and Paddle have different OpenMP libraries.

    Args:
        subject: has backbone, weights and threads.
        method: "Patchcore" or "Padim", the name of its class in anomalib.
        scratch: folder for the files of its engine.
        seed: of everything random.
        resize: the whole picture is resized to this height and width.
        crop: height and width of the centre that is examined; None examines all.
        arguments: arguments of its class.

    Raises:
        RuntimeError: the process ended before it answered.
    """

    def __init__(
        self,
        subject: Subject,
        method: str,
        scratch: Path,
        seed: int,
        resize: tuple[int, int],
        crop: tuple[int, int] | None,
        **arguments: Any,
    ) -> None:
        command = [sys.executable, "-m", "benchmarks.anomalib_worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._maps = scratch / "maps.npy"
        weights = scratch / "weights.npz"
        backbone = Backbone(subject.arch, LAYERS[method], crop or resize, subject.weights)
        np.savez(weights, **backbone.arrays())
        job = {"arch": subject.arch, "layers": LAYERS[method], "weights": str(weights), "seed": seed}
        job |= {"method": method, "resize": resize, "crop": crop, "arguments": arguments, "maps": str(self._maps)}
        self._ask({**job, "threads": subject.threads, "batch": BATCH, "good": f"train/{GOOD}", "scratch": str(scratch)})

    def fit(self, category: Category) -> None:
        """Fit on the category's good training pictures."""
        self._ask({"fit": str(category.folder)})

    def predict(self, category: Category) -> dict[str, float]:
        """Score all of the category's test pictures, one at a time; return image scores by resolved path."""
        return self._ask({"predict": str(category.folder)})

    def maps(self) -> np.ndarray:
        """Return the anomaly maps [pictures, height, width] of the last `predict`, in its order."""
        return np.load(self._maps)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, question: dict[str, Any]) -> Any:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line[len(ANSWER) :])
        raise RuntimeError(f"anomalib's process ended with {self._process.wait()}")
