"""The process that runs anomalib. It does not import our code, whose memory settings would apply to torch as well."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

TIMM_NAMES = {"_mean": "running_mean", "_variance": "running_var"}
ANSWER = "answer: "


def main() -> None:
    """Read json lines and answer them: the first says how to build the model, the others are `fit` and `predict`."""
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
        resize, crop = (size and tuple(size) for size in (job["resize"], job["crop"]))
        self._model = method(
            backbone=job["arch"],
            layers=job["layers"],
            pre_trained=False,
            pre_processor=method.configure_pre_processor(resize, **({"center_crop_size": crop} if crop else {})),
            post_processor=False,
            evaluator=False,
            visualizer=False,
            **job["arguments"],
        )
        network = self._model.model.feature_extractor.feature_extractor
        _load(network, job["weights"])
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        trainer = {"accelerator": "cpu", "logger": False, "limit_val_batches": 0}
        self._engine = Engine(default_root_dir=job["scratch"], **trainer, **quiet)
        self._job = job

    def fit(self, folder: Path) -> None:
        """Fit on the pictures of `folder`, with as many loading processes as threads."""
        from anomalib.data import Folder

        pictures = Folder(
            folder.name,
            normal_dir=self._job["good"],
            root=folder,
            train_batch_size=self._job["batch"],
            num_workers=self._job["threads"],
            test_split_mode="none",
            val_split_mode="none",
        )
        self._engine.fit(model=self._model, datamodule=pictures)

    def predict(self, folder: Path) -> dict[str, float]:
        """Return image scores by resolved path; the maps are written to a file."""
        from anomalib.data import PredictDataset
        from torch.utils.data import DataLoader

        dataset = PredictDataset(folder / "test")
        loader = DataLoader(dataset, 1, num_workers=self._job["threads"], collate_fn=dataset.collate_fn)
        batches = self._engine.predict(model=self._model, dataloaders=loader)
        np.save(
            self._job["maps"],
            np.concatenate([batch.anomaly_map.reshape(-1, *batch.anomaly_map.shape[-2:]).numpy() for batch in batches]),
        )
        return {str(Path(batch.image_path[0]).resolve()): float(batch.pred_score.item()) for batch in batches}


def _load(network: Any, weights: str) -> None:
    """Load our weights with timm's names; KeyError or ValueError if they do not fit."""
    import torch

    state = network.state_dict()
    for name, array in np.load(weights).items():
        *path, last = name.split(".")
        state[".".join([*path, TIMM_NAMES.get(last, last)])].copy_(torch.from_numpy(np.array(array)))


if __name__ == "__main__":
    main()
