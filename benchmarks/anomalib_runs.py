"""anomalib's PatchCore and PaDiM on the same pictures, backbone and weights, by its own engine."""

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
LAYERS = {"Patchcore": ("layer2", "layer3"), "Padim": ("layer1", "layer2", "layer3")}


class Anomalib:
    """A fresh model in a process of its own, since torch and Paddle bring different OpenMP libraries; `fit`, `predict`.

    Args:
        subject: gives backbone, weights and threads.
        method: "Patchcore" or "Padim", its class in anomalib.
        scratch: folder for what its engine writes.
        seed: decides everything random.
        resize: the whole picture is brought to this height and width.
        crop: height and width of the centre of it that is examined; None is all.
        arguments: of its class.

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
        command = [sys.executable, "-m", "benchmarks.anomalib_runs"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._maps = scratch / "maps.npy"
        job = {"arch": subject.arch, "weights": subject.weights, "seed": seed, "threads": subject.threads}
        job |= {"method": method, "resize": resize, "crop": crop, "arguments": arguments}
        self._ask({**job, "scratch": str(scratch)})

    def fit(self, category: Category) -> None:
        """On the category's good training pictures."""
        self._ask({"fit": str(category.folder)})

    def predict(self, category: Category) -> dict[str, float]:
        """On all of the category's test pictures, one at a time: image scores by resolved path."""
        return self._ask({"predict": str(category.folder)})

    def maps(self) -> np.ndarray:
        """The anomaly maps [pictures, height, width] of the last `predict`, in its order."""
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
        from anomalib import models
        from anomalib.engine import Engine

        torch.manual_seed(job["seed"])
        torch.set_num_threads(job["threads"])
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        method = getattr(models, job["method"])
        layers = LAYERS[job["method"]]
        resize, crop = (size and tuple(size) for size in (job["resize"], job["crop"]))
        backbone = Backbone(job["arch"], layers, crop or resize, job["weights"])
        self._model = method(
            backbone=job["arch"],
            layers=layers,
            pre_trained=False,
            pre_processor=method.configure_pre_processor(resize, **({"center_crop_size": crop} if crop else {})),
            post_processor=False,
            evaluator=False,
            visualizer=False,
            **job["arguments"],
        )
        network = self._model.model.feature_extractor.feature_extractor
        _load(network, backbone.arrays())
        network.requires_grad_(False)  # as its own pretrained ones; otherwise its features carry their history
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        trainer = {"accelerator": "cpu", "logger": False, "limit_val_batches": 0}
        self._engine = Engine(default_root_dir=job["scratch"], **trainer, **quiet)
        self._threads, self._maps = job["threads"], Path(job["scratch"]) / "maps.npy"

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
        """Image scores by resolved path; the maps are written."""
        from anomalib.data import PredictDataset
        from torch.utils.data import DataLoader

        dataset = PredictDataset(folder / "test")
        loader = DataLoader(dataset, 1, num_workers=self._threads, collate_fn=dataset.collate_fn)
        batches = self._engine.predict(model=self._model, dataloaders=loader)
        np.save(
            self._maps,
            np.concatenate([batch.anomaly_map.reshape(-1, *batch.anomaly_map.shape[-2:]).numpy() for batch in batches]),
        )
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
