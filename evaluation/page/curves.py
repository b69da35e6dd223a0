"""Points of a category's curves: ROC and precision-recall by scikit-learn, per-region overlap by `evaluation.aupro`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..aupro import PRO_LIMIT
from ..run import Outcome

ROC_COLUMNS = ("category", "threshold", "false_positive_rate", "true_positive_rate")
RECALL_COLUMNS = ("category", "threshold", "precision", "recall")
PRO_COLUMNS = ("category", "false_positive_rate", "region_overlap")
Points = tuple[np.ndarray, np.ndarray]


class Curves(NamedTuple):
    """The curves of a category; None for a curve that does not exist (no defects, no good pictures, no masks)."""

    roc: Points | None
    """False and true positive rate, ascending."""
    roc_thresholds: np.ndarray
    """The image score of each point of `roc`; `inf` where nothing is called defective. Empty if there is no curve."""
    recall: Points | None
    """Recall, descending, and precision."""
    recall_thresholds: np.ndarray
    """The same for `recall`."""
    pro: Points | None
    """False positive rate of pixels and mean overlap of regions, ascending."""


def curves_of(outcome: Outcome) -> Curves:
    """Return the curves of an evaluation; the curve of regions was computed with its figures."""
    from sklearn.metrics import precision_recall_curve, roc_curve  # only a report needs it

    truth = np.array([one.defective for one in outcome.pictures])
    scores = np.array([one.score for one in outcome.pictures])
    roc = recall = None
    roc_thresholds = recall_thresholds = np.empty(0)
    if truth.any() and not truth.all():
        false, true, roc_thresholds = roc_curve(truth, scores)
        precision, found, recall_thresholds = precision_recall_curve(truth, scores)
        roc, recall = (false, true), (found, precision)
        recall_thresholds = np.append(recall_thresholds, np.inf)
    pro = outcome.figures.pro
    return Curves(roc, roc_thresholds, recall, recall_thresholds, None if pro is None else tuple(pro.drawn(PRO_LIMIT)))


def roc_rows(name: str, curves: Curves) -> list[tuple[str, ...]]:
    """Return rows of ROC_COLUMNS; the threshold that calls nothing defective is `inf`."""
    return [] if curves.roc is None else _rows(name, curves.roc_thresholds, *curves.roc)


def recall_rows(name: str, curves: Curves) -> list[tuple[str, ...]]:
    """Return rows of RECALL_COLUMNS; the threshold that calls nothing defective is `inf`."""
    return [] if curves.recall is None else _rows(name, curves.recall_thresholds, *curves.recall[::-1])


def pro_rows(name: str, curves: Curves) -> list[tuple[str, ...]]:
    """Return rows of PRO_COLUMNS."""
    return [] if curves.pro is None else _rows(name, *curves.pro)


def _rows(name: str, *columns: np.ndarray) -> list[tuple[str, ...]]:
    return [(name, *(f"{value:.9g}" for value in row)) for row in zip(*columns)]
