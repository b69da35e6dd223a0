"""anomalib's PatchCore on the same pictures, backbone, weights, sizes and bank ratio, by its own engine."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.mvtec import GOOD, Category
from deploy.command_line.script import run_script
from models.backbones.backbone import Backbone

from .subject import BATCH, Subject

TIMM_NAMES = {"_mean": "running_mean", "_variance": "running_var"}
ANSWER = "answer: "


class AnomalibPatchCore:
    """A fresh model in a process of its own, since torch and Paddle bring different OpenMP libraries; `fit`, `predict`.

    Raises:
        RuntimeError: the process ended before it answered.
    """

    def __init__(self, subject: Subject, ratio: float, scratch: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.anomalib_runs"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        job = {"arch": subject.arch, "weights": subject.weights, "seed": subject.seed, "threads": subject.threads}
        job |= {"resize": subject.preprocess.resize, "crop_size": subject.preprocess.crop_size}
        self._ask({**job, "ratio": ratio, "scratch": str(scratch)})

    def fit(self, category: Category) -> None:
        """On the category's good training pictures."""
        self._ask({"fit": str(category.folder)})

    def predict(self, category: Category) -> dict[str, float]:
        """On all of the category's test pictures, one at a time: image scores by resolved path."""
        return self._ask({"predict": str(category.folder)})

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


def main() -> None:
    """Answer one json line after the other: how to build the model, then `fit` and `predict`."""
    questions = map(json.loads, sys.stdin)
    worker = _Worker(next(questions))
    print(ANSWER + "null", flush=True)
    for question in questions:
        [(what, folder)] = question.items()
        print(ANSWER + json.dumps(getattr(worker, what)(Path(folder))), flush=True)


class _Worker:
    """anomalib's model and engine."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch
        from anomalib.engine import Engine
        from anomalib.models import Patchcore

        torch.manual_seed(job["seed"])
        torch.set_num_threads(job["threads"])
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        sizes = [(size, size) for size in (job["resize"], job["crop_size"])]
        backbone = Backbone(job["arch"], ("layer2", "layer3"), job["crop_size"], job["weights"])
        self._model = Patchcore(
            backbone=job["arch"],
            layers=backbone.layers,
            pre_trained=False,
            coreset_sampling_ratio=job["ratio"],
            pre_processor=Patchcore.configure_pre_processor(*sizes),
            evaluator=False,
            visualizer=False,
        )
        _load(self._model.model.feature_extractor.feature_extractor, backbone.arrays())
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        trainer = {"accelerator": "cpu", "logger": False, "limit_val_batches": 0}
        self._engine = Engine(default_root_dir=job["scratch"], **trainer, **quiet)
        self._threads = job["threads"]

    def fit(self, folder: Path) -> None:
        """As many loading processes as threads."""
        from anomalib.data import Folder

        pictures = Folder(
            folder.name,
            normal_dir=f"train/{GOOD}",
            root=folder,
            train_batch_size=BATCH,
            num_workers=self._threads,
            test_split_mode="none",
            val_split_mode="none",
        )
        self._engine.fit(model=self._model, datamodule=pictures)

    def predict(self, folder: Path) -> dict[str, float]:
        """Image scores by resolved path."""
        from anomalib.data import PredictDataset
        from torch.utils.data import DataLoader

        dataset = PredictDataset(folder / "test")
        loader = DataLoader(dataset, 1, num_workers=self._threads, collate_fn=dataset.collate_fn)
        batches = self._engine.predict(model=self._model, dataloaders=loader)
        return {str(Path(batch.image_path[0]).resolve()): float(batch.pred_score.item()) for batch in batches}


def _load(network: Any, arrays: dict[str, np.ndarray]) -> None:
    """Our weights under timm's names; KeyError or ValueError where they do not fit."""
    import torch

    state = network.state_dict()
    for name, array in arrays.items():
        *path, last = name.split(".")
        state[".".join([*path, TIMM_NAMES.get(last, last)])].copy_(torch.from_numpy(np.array(array)))


if __name__ == "__main__":
    run_script(main)
