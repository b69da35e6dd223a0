"""Computing the figures of a category, and writing the table of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from deploy.calibration import Calibration
from deploy.predictor import Prediction
from deploy.storage.table import write_csv

from .aupro import PRO_LIMIT, ProCurve, pro_curve
from .decisions import Decisions
from .ranking import Ranking, rank

FIGURES = (
    "Image_AUROC",
    "Pixel_AUROC",
    "PRO_score",
    "PRO_score_0.05",
    "Image_AP",
    "Image_F1max",
    "Image_F1",
    "False_alarms",
    "Misses",
    "Pixel_AP",
    "Pixel_F1max",
)
"""`Image_F1`, `False_alarms` (share of good pictures called defective) and `Misses` (share of defective pictures called
good) are at the threshold in use; the others need no threshold."""
SUMMARY = {
    "image": {"AUROC": "Image_AUROC", "AP": "Image_AP", "F1": "Image_F1", "best F1": "Image_F1max"},
    "pixel": {"AUROC": "Pixel_AUROC", "AP": "Pixel_AP", "best F1": "Pixel_F1max"},
    "AU-PRO": {"": "PRO_score", "up to 0.05": "PRO_score_0.05"},
}
"""The FIGURES in the printed line, with their names there; the threshold's decisions are printed in another line."""


class Figures(NamedTuple):
    """The result of `compute_figures`."""

    row: dict[str, Any]
    """FIGURES by name, None if a figure does not exist (no masks, no defects, no good pictures); and `decisions`,
    which is `decided` as a line of text."""
    decided: Decisions
    pro: ProCurve | None
    """The curve of `PRO_score`; None if that does not exist."""


def compute_figures(
    predictions: Iterable[Prediction],
    defective: Sequence[bool],
    masks: Sequence[np.ndarray | None],
    calibration: Calibration,
    pro: bool,
) -> Figures:
    """Compute the FIGURES of one category.

    Args:
        predictions: one per test picture.
        defective: the truth per picture.
        masks: bool [height, width] as the map, per picture; None if not known: then the picture is left out of pixel
            figures.
        calibration: has the image threshold for the decisions and `Image_F1`.
        pro: whether AU-PRO is computed.
    """
    scores, maps = [], []
    for prediction in predictions:
        scores.append(prediction.score)
        maps.append(prediction.anomaly_map)
    truth, score = np.asarray(defective, bool), np.asarray(scores)
    image = rank(score[truth], score[~truth])
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    curve: ProCurve | None = None
    figures.update(Image_AUROC=image.auroc, Image_AP=image.average_precision, Image_F1max=image.f1_max)
    decided = Decisions.at(calibration.image_threshold, score, truth)
    found = decided.defective - decided.misses
    if decided.good and decided.defective:
        figures["Image_F1"] = 2 * found / (found + decided.false_alarms + decided.defective)
    figures["False_alarms"] = decided.false_alarms / decided.good if decided.good else None
    figures["Misses"] = decided.misses / decided.defective if decided.defective else None
    known = [number for number, mask in enumerate(masks) if mask is not None]
    if any(masks[number].any() for number in known):
        known_maps, known_masks = [maps[number] for number in known], [masks[number] for number in known]
        pixel = rank_pixels(known_maps, known_masks)
        figures.update(Pixel_AUROC=pixel.auroc, Pixel_AP=pixel.average_precision, Pixel_F1max=pixel.f1_max)
        curve = pro_curve(known_maps, known_masks) if pro else None
        if curve:
            figures["PRO_score"], figures["PRO_score_0.05"] = curve.area(PRO_LIMIT), curve.area(0.05)
    return Figures({**figures, "decisions": str(decided)}, decided, curve)


def rank_pixels(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Ranking:
    """Rank the defective pixels of all maps [height, width] against the good ones, by masks bool [height, width]."""
    inside = np.concatenate([anomaly_map[mask] for anomaly_map, mask in zip(maps, masks)])
    outside = np.concatenate([anomaly_map[~mask] for anomaly_map, mask in zip(maps, masks)])
    return rank(inside, outside)


@dataclass
class Report:
    """The figures of one seed's models."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """For each category: `category` and FIGURES."""
    provenance: list[dict[str, Any]] = field(default_factory=list)
    """For each category: `deploy.results.tables.provenance_columns`."""

    def of_all(self, joined: Callable[[list[Any]], list[Any]], order: Sequence[str]) -> Report:
        """Return the figures of all processes, which `joined` collects, in the `order` of the categories."""
        found = joined(list(zip(self.rows, self.provenance)))
        found.sort(key=lambda pair: order.index(pair[0]["category"]))
        return Report([row for row, _ in found], [provenance for _, provenance in found])


def seeds_table(selection: str, seeds: Sequence[int]) -> str:
    """Return the file name of the table of these categories and seeds."""
    return f"{selection}_seed{'+'.join(map(str, seeds))}.csv"


def write_report(path: Path, report: Report) -> Path:
    """Write the table `category,Image_AUROC,...` with provenance columns and a `mean` row."""
    lines = [
        [row["category"], *(_cell(row[f]) for f in FIGURES), *provenance.values()]
        for row, provenance in zip(report.rows, report.provenance)
    ]
    means = [_cell(value) for value in means_of(report.rows)]
    columns = ("category", *FIGURES, *report.provenance[0])
    return write_csv(path, columns, [*lines, ["mean", *means, *_shared(report.provenance)]])


def write_seeds_report(path: Path, reports: Sequence[Report]) -> Path:
    """Write a table of means over seeds, `category,Image_AUROC,...`, and deviations, `Image_AUROC_deviation,...`.

    Deviations are sample standard deviations (divisor seeds - 1). The row `mean` has mean and deviation of the mean
    over categories. A figure that does not exist for every seed is left empty.

    Args:
        path: path of the table.
        reports: one report per seed, at least two, with the same categories in the same order.
    """
    columns = ("category", *FIGURES, *(f"{figure}_deviation" for figure in FIGURES), *reports[0].provenance[0])
    each = [[*([row[f] for f in FIGURES] for row in report.rows), means_of(report.rows)] for report in reports]
    names = [*(row["category"] for row in reports[0].rows), "mean"]
    shared = [_over_seeds(of_category) for of_category in zip(*(report.provenance for report in reports))]
    shared.append(_over_seeds([dict(zip(r.provenance[0], _shared(r.provenance))) for r in reports]))
    lines = []
    for name, by_seed, provenance in zip(names, zip(*each), shared):
        figures = [values if None not in values else None for values in zip(*by_seed)]
        means = [None if values is None else float(np.mean(values)) for values in figures]
        deviations = [None if values is None else float(np.std(values, ddof=1)) for values in figures]
        lines.append([name, *map(_cell, means), *map(_cell, deviations), *provenance.values()])
    return write_csv(path, columns, lines)


def _over_seeds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the provenance that all seeds share, and the list of seeds."""
    shared = dict(zip(rows[0], _shared(rows)))
    return {**shared, "seed": " ".join(str(row["seed"]) for row in rows)}


def _shared(rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Return, per column, the value if all rows share it, else an empty string."""
    return [values[0] if len(set(values)) == 1 else "" for values in zip(*(row.values() for row in rows))]


def means_of(rows: list[dict[str, Any]]) -> list[float | None]:
    """Return the mean of each figure over the categories that have it."""
    present = [[row[figure] for row in rows if row[figure] is not None] for figure in FIGURES]
    return [float(np.mean(values)) if values else None for values in present]


def summary(row: dict[str, Any]) -> str:
    """Return a line with the figures that exist, and a line with the decisions of the threshold in use."""
    told = []
    for what, figures in SUMMARY.items():
        known = [f"{name} {row[figure]:.4f}".lstrip() for name, figure in figures.items() if row[figure] is not None]
        told += [f"{what} {', '.join(known)}"] if known else []
    return "\n".join(filter(None, ("; ".join(told) or "no figures", row.get("decisions"))))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
