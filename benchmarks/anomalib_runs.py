"""anomalib's PatchCore on the same pictures, backbone, weights, sizes and bank ratio, by its own engine."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from datasets.mvtec import GOOD, Category
from models.backbone import Backbone

from .subject import BATCH, Subject

TIMM_NAMES = {"_mean": "running_mean", "_variance": "running_var"}


class AnomalibPatchCore:
    """A fresh model: `fit`, then `predict`."""

    def __init__(self, subject: Subject, ratio: float, scratch: Path) -> None:
        import torch
        from anomalib.engine import Engine
        from anomalib.models import Patchcore

        torch.manual_seed(subject.seed)
        torch.set_num_threads(subject.threads)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        sizes = [(size, size) for size in (subject.preprocess.resize, subject.preprocess.crop_size)]
        backbone = Backbone(subject.arch, ("layer2", "layer3"), subject.preprocess.crop_size, subject.weights)
        self._model = Patchcore(
            backbone=subject.arch,
            layers=backbone.layers,
            pre_trained=False,
            coreset_sampling_ratio=ratio,
            pre_processor=Patchcore.configure_pre_processor(*sizes),
            evaluator=False,
            visualizer=False,
        )
        _take(self._model.model.feature_extractor.feature_extractor, backbone.arrays())
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        trainer = {"accelerator": "cpu", "logger": False, "limit_val_batches": 0}
        self._engine = Engine(default_root_dir=scratch, **trainer, **quiet)
        self._threads = subject.threads

    def fit(self, category: Category) -> None:
        """On the category's good training pictures, as many loading processes as threads."""
        self._engine.fit(model=self._model, datamodule=self._folder(category))

    def predict(self, category: Category) -> list[Any]:
        """On all of the category's test pictures, one at a time."""
        from anomalib.data import PredictDataset
        from torch.utils.data import DataLoader

        dataset = PredictDataset(category.folder / "test")
        loader = DataLoader(dataset, 1, num_workers=self._threads, collate_fn=dataset.collate_fn)
        return self._engine.predict(model=self._model, dataloaders=loader)

    def _folder(self, category: Category) -> Any:
        from anomalib.data import Folder

        return Folder(
            category.name,
            normal_dir=f"train/{GOOD}",
            root=category.folder,
            train_batch_size=BATCH,
            num_workers=self._threads,
            test_split_mode="none",
            val_split_mode="none",
        )


def _take(network: Any, arrays: dict[str, np.ndarray]) -> None:
    """Our weights under timm's names; KeyError or ValueError where they do not fit."""
    import torch

    state = network.state_dict()
    for name, array in arrays.items():
        *path, last = name.split(".")
        state[".".join([*path, TIMM_NAMES.get(last, last)])].copy_(torch.from_numpy(np.array(array)))
