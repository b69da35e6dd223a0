"""The figures of a category, and the table of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.calibration import Calibration
from deploy.predictor import Prediction
from deploy.results.tables import write_csv

from .aupro import aupro
from .ranking import rank

FIGURES = (
    "Image_AUROC",
    "Pixel_AUROC",
    "PRO_score",
    "PRO_score_0.05",
    "Image_AP",
    "Image_F1max",
    "Image_F1",
    "Pixel_AP",
    "Pixel_F1max",
)
"""`Image_F1` is at the threshold stored with the model; the others need no threshold."""


def evaluate(
    predictions: Iterable[Prediction],
    defective: Sequence[bool],
    masks: Sequence[np.ndarray | None],
    calibration: Calibration,
    pro_limit: float | None,
) -> dict[str, float | None]:
    """The FIGURES of one category; None where they do not exist (no masks, no defects, no good pictures).

    Args:
        predictions: one per test picture.
        defective: the truth per picture.
        masks: bool [crop, crop] per picture; None where not known: that picture is left out of pixel figures.
        calibration: its image threshold gives `Image_F1`.
        pro_limit: false positive rate up to which `PRO_score` integrates; None leaves AU-PRO out.
    """
    scores, maps = [], []
    for prediction in predictions:
        scores.append(prediction.score)
        maps.append(prediction.anomaly_map)
    truth, score = np.asarray(defective, bool), np.asarray(scores)
    image = rank(score[truth], score[~truth])
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    figures.update(Image_AUROC=image.auroc, Image_AP=image.average_precision, Image_F1max=image.f1_max)
    if truth.any() and not truth.all():
        called = score > calibration.image_threshold
        figures["Image_F1"] = float(2 * (called & truth).sum() / (called.sum() + truth.sum()))
    known = [number for number, mask in enumerate(masks) if mask is not None]
    if any(masks[number].any() for number in known):
        known_maps, known_masks = [maps[number] for number in known], [masks[number] for number in known]
        inside = np.concatenate([m[mask] for m, mask in zip(known_maps, known_masks)])
        outside = np.concatenate([m[~mask] for m, mask in zip(known_maps, known_masks)])
        pixel = rank(inside, outside)
        figures.update(Pixel_AUROC=pixel.auroc, Pixel_AP=pixel.average_precision, Pixel_F1max=pixel.f1_max)
        areas = aupro(known_maps, known_masks, (pro_limit, 0.05)) if pro_limit else None
        if areas:
            figures["PRO_score"], figures["PRO_score_0.05"] = areas
    return figures


def write_report(path: Path, rows: list[dict[str, Any]], origins: list[dict[str, Any]]) -> Path:
    """Write `category,Image_AUROC,...` with a `mean` row; `rows` hold `category` and FIGURES, `origins` provenance."""
    columns = ("category", *FIGURES, *origins[0])
    lines = [
        [row["category"], *(_cell(row[f]) for f in FIGURES), *origin.values()] for row, origin in zip(rows, origins)
    ]
    means = []
    for figure in FIGURES:
        present = [row[figure] for row in rows if row[figure] is not None]
        means.append(_cell(float(np.mean(present)) if present else None))
    shared = [values[0] if len(set(values)) == 1 else "" for values in zip(*(o.values() for o in origins))]
    return write_csv(path, columns, [*lines, ["mean", *means, *shared]])


def summary(row: dict[str, Any]) -> str:
    """One line for people: the figures that exist."""
    return ", ".join(f"{figure} {row[figure]:.4f}" for figure in FIGURES if row[figure] is not None) or "no figures"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
