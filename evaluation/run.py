"""Evaluating a fitted model on a category's test pictures, for train.py and eval.py alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from datasets.mvtec import Category, read_mask
from deploy.calibration import Calibration
from deploy.predictor import Prediction
from deploy.preprocess import Preprocess
from deploy.progress import progress
from deploy.tables import picture_namer

from .report import evaluate, with_pictures


class Model(Protocol):
    """What evaluation needs of a fitted model."""

    calibration: Calibration
    preprocess: Preprocess

    def predict(self, pictures: Sequence[Path], batch_size: int, workers: int | None) -> Iterable[Prediction]:
        """Predictions in order."""


def evaluate_category(
    model: Model,
    category: Category,
    batch_size: int = 1,
    workers: int | None = None,
    pro_limit: float | None = None,
    heat_maps: Path | None = None,
) -> dict[str, Any]:
    """The row of `category` for the report: its name and FIGURES. Writes heat maps below `heat_maps` when given.

    Raises:
        UserError: no test pictures, or one that cannot be read.
    """
    pictures = category.test_pictures()
    paths = [picture.path for picture in pictures]
    masks = [read_mask(picture, model.preprocess) for picture in pictures]
    namer = picture_namer(paths)
    predictions = progress(model.predict(paths, batch_size, workers), len(paths), f"test {category.name}")
    shown = with_pictures(
        predictions, [namer(str(path)) for path in paths], masks, model.calibration, model.preprocess, heat_maps
    )
    figures = evaluate(shown, [picture.defective for picture in pictures], masks, model.calibration, pro_limit)
    return {"category": category.name, **figures}
