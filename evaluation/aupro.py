"""AU-PRO: area under the per-region-overlap curve (Bergmann et al. 2021, the MVTec AD evaluation), exact.

The curve shows the per-region overlap, averaged over all ground-truth regions of all pictures, over the false positive
rate of all good pixels. Every distinct map value is a threshold. The curve is integrated by trapezoids from 0 to a
limit, where it is interpolated, and the area is divided by the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deploy.command_line.progress import progress

PRO_LIMIT = 0.3
"""False positive rate up to which the figure `PRO_score` integrates, and up to which curves are shown."""


class ProCurve(NamedTuple):
    """Per-region overlap over the false positive rate, both 0 to 1 and ascending."""

    rates: np.ndarray
    """float64 [points], from 0 on; beyond the limit that the curve was computed for, the curve is not exact."""
    overlaps: np.ndarray
    """float64 [points]."""

    def up_to(self, limit: float) -> ProCurve:
        """Return the curve from 0 to `limit`, where it is interpolated."""
        rates, overlaps = self
        end = int(np.searchsorted(rates, limit, "right"))
        x, y = rates[:end], overlaps[:end]
        if x[-1] < limit:
            share = (limit - x[-1]) / (rates[end] - x[-1])
            x = np.append(x, limit)
            y = np.append(y, y[-1] + share * (overlaps[end] - y[-1]))
        return ProCurve(x, y)

    def area(self, limit: float) -> float:
        """Return the area by trapezoids from 0 to `limit`, divided by the limit."""
        x, y = self.up_to(limit)
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)

    def drawn(self, limit: float, most: int = 400) -> ProCurve:
        """Return about `most` points of the curve up to `limit`, evenly spaced along it, for a plot."""
        x, y = self.up_to(limit)
        way = x / limit + y
        chosen = np.searchsorted(way, np.linspace(0, way[-1], most))
        chosen = np.unique([0, *chosen, *np.maximum(chosen - 1, 0), len(way) - 1])
        return ProCurve(x[chosen], y[chosen])


def aupro(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limits: Sequence[float] = (PRO_LIMIT,)
) -> list[float] | None:
    """AU-PRO, 0 to 1, for each false positive rate in `limits` (above 0, at most 1); None as for `pro_curve`."""
    curve = pro_curve(maps, masks, max(limits))
    return None if curve is None else [curve.area(limit) for limit in limits]


def pro_curve(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = PRO_LIMIT) -> ProCurve | None:
    """Compute the curve whose area is AU-PRO.

    Args:
        maps: float [height, width] per picture; larger values are more anomalous.
        masks: bool [height, width] per picture; regions are 8-connected.
        limit: the curve is exact up to this false positive rate, above 0 and at most 1.

    Returns:
        The curve, or None if there is no region or no good pixel.
    """
    good = np.concatenate([np.ravel(anomaly_map[~mask]) for anomaly_map, mask in zip(maps, masks)])
    if good.size == 0:
        return None
    # The curve up to the limit depends only on the highest values of good pixels, so only these are sorted.
    lowest = max(0, good.size - int(limit * good.size) - 1)
    floor = np.partition(good, lowest)[lowest]
    top = np.sort(good[good >= floor])
    values, weights, regions = [], [], 0
    for anomaly_map, mask in progress(zip(maps, masks), len(maps), "AU-PRO", delay=1):
        if not mask.any():
            continue
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        inside, value = labels[mask], anomaly_map[mask]
        high = value >= floor
        values.append(value[high])
        weights.append(1.0 / np.bincount(inside, minlength=count)[inside[high]])
        regions += count - 1
    if regions == 0:
        return None
    value, overlap = _gains(np.concatenate(values), np.concatenate(weights) / regions)
    # Between two values of region pixels the curve is horizontal; at a value that good pixels have too, it is slanted.
    rate_before = (top.size - np.searchsorted(top, value, "right")) / good.size
    rate_after = (top.size - np.searchsorted(top, value, "left")) / good.size
    rates = np.concatenate([[0.0], np.stack([rate_before, rate_after], 1).ravel(), [1.0]])
    before = np.concatenate([[0.0], overlap])
    overlaps = np.concatenate([[0.0], np.stack([before[:-1], overlap], 1).ravel(), before[-1:]])
    return ProCurve(rates, overlaps)


def _gains(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, descending, and for each as the threshold the mean overlap of all regions."""
    order = np.argsort(values)[::-1]
    values, gained = values[order], np.cumsum(weights[order], dtype=np.float64)
    last = np.append(values[1:] != values[:-1], True)[: values.size]
    return values[last], np.minimum(gained[last], 1.0)
