"""Evaluate a fitted model on the test pictures of a category; used by train.py and eval.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datasets.readers import Category, LabelledPicture, read_mask
from datasets.readers.labelled import picture_digests
from datasets.readers.survey import test_overview
from deploy.calibration import Calibration
from deploy.command_line.progress import progress
from deploy.drift import Drift
from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import prefetch
from deploy.predictor import Prediction
from deploy.results.tables import ScoreSheet, picture_namer

from .report import evaluate


class Model(Protocol):
    """The interface of a fitted model that evaluation uses."""

    calibration: Calibration
    preprocess: Preprocess

    def predict(self, pictures: Sequence[Path], batch_size: int, workers: int | None) -> Iterable[Prediction]:
        """Yield predictions in order."""


def evaluate_category(
    model: Model,
    category: Category,
    folder: Path,
    provenance: dict[str, Any],
    batch_size: int = 1,
    workers: int | None = None,
    pro_limit: float | None = None,
    heat_maps: bool = True,
    false_alarm: float | None = None,
    watch_drift: bool = False,
) -> dict[str, Any]:
    """Evaluate one category and return its row for the report: its name and FIGURES.

    Writes `folder/eval.csv` and, if `heat_maps`, `folder/heatmaps/`.
    `provenance` is what `provenance_columns` gives; `pro_limit` is that of `evaluate`; `false_alarm` takes the place of
    the model's own rate; `watch_drift` prints whether the good ones look as the training pictures did.

    Raises:
        UserError: no test pictures, or one that cannot be read.
    """
    pictures, levels = category.test_pictures(), model.calibration.at(false_alarm=false_alarm)
    paths = [picture.path for picture in pictures]
    print(test_overview(pictures), flush=True)
    sheet = ScoreSheet(folder, "eval", levels, model.preprocess, provenance, heat_maps, extra=("kind",))
    name = picture_namer(paths)
    found, masks = [], []
    predictions = progress(model.predict(paths, batch_size, workers), len(paths), f"test {category.name}")

    def read(pair: tuple[Prediction, LabelledPicture]) -> np.ndarray | None:
        return read_mask(pair[1], model.preprocess, pair[0].shape)

    with sheet:
        for (prediction, picture), truth in prefetch(read, zip(predictions, pictures), workers):
            mask = truth()
            shown = mask if mask is not None and mask.any() else None
            sheet.add(prediction, name(prediction.name), shown, (picture.defect,))
            found.append(prediction)
            masks.append(mask)
        sheet.finish()
    told = mask_note([mask for mask, picture in zip(masks, pictures) if picture.defective])
    if told:
        print(told, flush=True)
    if watch_drift:
        drift = Drift(levels.scores, levels.brightness)
        for prediction, picture in zip(found, pictures):
            if not picture.defective:
                drift.add(prediction.score, prediction.brightness)
        print(drift, flush=True)
    known = set((levels.labelled or {}).get("pictures", ()))
    again = sum(digest in known for digest in picture_digests(paths)) if known else 0
    if again:
        print(f"note: {again} of these {len(paths)} pictures set the threshold, so what it decides looks too good")
    figures = evaluate(found, [picture.defective for picture in pictures], masks, levels, pro_limit)
    return {"category": category.name, **figures}


def mask_note(masks: Sequence[np.ndarray | None]) -> str:
    """One line where some masks of defective pictures are missing or empty while others are not; else no text."""
    missing = sum(mask is None for mask in masks)
    empty = sum(mask is not None and not mask.any() for mask in masks)
    if not empty and missing in (0, len(masks)):
        return ""
    return (
        f"note: {missing} of {len(masks)} defective pictures have no mask (not in pixel figures), {empty} an empty "
        "one, black or outside of the crop (all good there)"
    )
