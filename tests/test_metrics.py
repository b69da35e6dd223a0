"""Metrics against independent literal implementations and scikit-learn, with ties."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from benchmarks.threshold_pro import threshold_pro
from evaluation.aupro import aupro
from evaluation.ranking import rank

pytestmark = pytest.mark.once


def literal_aupro(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """Threshold by threshold and region by region, as the definition reads."""
    regions = []
    for number, mask in enumerate(masks):
        labels = label(mask, connectivity=2)
        regions += [(number, labels == name) for name in range(1, labels.max() + 1)]
    good = sum(int((~mask).sum()) for mask in masks)
    curve = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        false = sum(int(((m >= threshold) & ~mask).sum()) for m, mask in zip(maps, masks))
        overlap = np.mean([((maps[number] >= threshold) & region).sum() / region.sum() for number, region in regions])
        curve.append((false / good, overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(curve, curve[1:]):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def random_case(seed: int, levels: int | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    masks = [random.random((14, 11)) < density for density in (0.0, 0.1, 0.25)]
    maps = [random.random(mask.shape) + 0.4 * mask for mask in masks]
    if levels:
        maps = [np.floor(m * levels) / levels for m in maps]
    return [m.astype(np.float32) for m in maps], masks


@pytest.mark.parametrize("levels", [None, 2, 5, 30])
@pytest.mark.parametrize("seed", range(5))
def test_aupro_equals_the_literal_definition(seed: int, levels: int | None) -> None:
    maps, masks = random_case(seed, levels)
    limits = (0.3, 0.05, 1.0)
    for limit, value in zip(limits, aupro(maps, masks, limits)):
        assert value == pytest.approx(literal_aupro(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 30])
@pytest.mark.parametrize("seed", range(3))
def test_aupro_up_to_one_limit_misses_nothing_below_it(seed: int, levels: int | None) -> None:
    """What lies beyond the limit is left out; the limits here fall between two good pixels."""
    maps, masks = random_case(seed, levels)
    for limit in (0.301, 0.0505, 0.0131):
        assert aupro(maps, masks, (limit,)) == [pytest.approx(literal_aupro(maps, masks, limit), abs=1e-12)]


def test_aupro_extremes() -> None:
    masks = [np.zeros((8, 8), bool)]
    masks[0][2:4, 2:4] = True
    assert aupro([masks[0].astype(np.float32)], masks) == [1.0]
    assert aupro([1 - masks[0].astype(np.float32)], masks) == [0.0]
    flat = np.ones((8, 8), np.float32)  # one threshold: the diagonal from (0, 0) to (1, 1)
    assert aupro([flat], masks) == [pytest.approx(0.15)]
    assert aupro([flat], [np.zeros((8, 8), bool)]) is None
    assert aupro([flat], [np.ones((8, 8), bool)]) is None


def test_aupro_where_no_region_is_above_the_limit() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0, :2] = True
    anomaly_map = np.arange(100, dtype=np.float32).reshape(10, 10)  # the region holds the lowest values
    assert aupro([anomaly_map], [mask], (0.3, 0.05)) == [0.0, 0.0]
    assert aupro([anomaly_map.T + mask * 200], [mask]) == [1.0]


def blots(count: int, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps and masks, [count, side, side]: a quarter good, else one to three discs."""
    random, grid = np.random.default_rng(0), np.mgrid[:side, :side]
    maps, masks = [], []
    for number in range(count):
        centres = random.integers(12, side - 12, (random.integers(1, 4) if number % 4 else 0, 2))
        far = [np.hypot(*(grid - centre[:, None, None])) for centre in centres]
        masks.append(
            np.any([distance < random.integers(3, 10) for distance in far], axis=0) & np.ones((side, side), bool)
        )
        blurred = sum((np.exp(-((distance / 8) ** 2)) for distance in far), np.zeros((side, side)))
        maps.append((0.3 * blurred + random.random((side, side))).astype(np.float32))
    return np.stack(maps), np.stack(masks)


def test_the_benchmarks_thresholds_agree_with_the_exact_area() -> None:
    maps, masks = blots(12)
    coarse = threshold_pro(maps, masks, 0.3)
    assert coarse == pytest.approx(aupro(maps, masks)[0], abs=2e-3)
    assert threshold_pro(maps, masks, 0.3, anew=True) == pytest.approx(coarse, abs=1e-12)


def test_diagonal_neighbours_are_one_region() -> None:
    mask = np.eye(6, dtype=bool)
    maps = [np.where(np.arange(6)[:, None] < 3, mask, 0).astype(np.float32)]
    assert aupro(maps, [mask], (1e-9,)) == [pytest.approx(0.5)]


@pytest.mark.parametrize("levels", [None, 3, 40])
@pytest.mark.parametrize("seed", range(5))
def test_ranking_equals_scikit_learn(seed: int, levels: int | None) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(500) < 0.3
    scores = random.random(500) + 0.5 * truth
    if levels:
        scores = np.floor(scores * levels)
    found = rank(scores[truth], scores[~truth])
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert found.average_precision == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert found.f1_max == pytest.approx(best, abs=1e-12)


def test_ranking_without_one_kind_and_with_bad_scores() -> None:
    assert rank(np.array([]), np.ones(3)) == (None, None, None)
    assert rank(np.ones(3), np.array([])) == (None, None, None)
    with pytest.raises(ValueError, match="finite"):
        rank(np.array([np.nan]), np.ones(3))
