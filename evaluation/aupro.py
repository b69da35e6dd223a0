"""AU-PRO: area under the per-region-overlap curve (Bergmann et al. 2021, the MVTec AD evaluation), exact.

The curve is per-region overlap, averaged over all ground-truth regions of all pictures, against the false positive rate
over all good pixels, with every distinct map value as a threshold. It is integrated by trapezoids from 0 to a limit,
interpolated there, and divided by the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deploy.command_line.progress import progress


def aupro(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limits: Sequence[float] = (0.3,)
) -> list[float] | None:
    """AU-PRO at each false positive rate in `limits` (above 0, at most 1), each 0 to 1.

    Args:
        maps: float [height, width] per picture, larger is more anomalous.
        masks: bool [height, width] per picture; regions are 8-connected.

    Returns:
        One value per limit, or None without any region or any good pixel.
    """
    good = np.concatenate([np.ravel(anomaly_map[~mask]) for anomaly_map, mask in zip(maps, masks)])
    if good.size == 0:
        return None
    # The curve up to the limit is decided by the highest good values alone: only they are sorted.
    lowest = max(0, good.size - int(max(limits) * good.size) - 1)
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
    # Between two region values the curve runs level; at a region value that good pixels share it runs aslant.
    rate_before = (top.size - np.searchsorted(top, value, "right")) / good.size
    rate_after = (top.size - np.searchsorted(top, value, "left")) / good.size
    rates = np.concatenate([[0.0], np.stack([rate_before, rate_after], 1).ravel(), [1.0]])
    before = np.concatenate([[0.0], overlap])
    overlaps = np.concatenate([[0.0], np.stack([before[:-1], overlap], 1).ravel(), before[-1:]])
    return [_area(rates, overlaps, limit) for limit in limits]


def _gains(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, descending, and the mean overlap of all regions at each as the threshold."""
    order = np.argsort(values)[::-1]
    values, gained = values[order], np.cumsum(weights[order], dtype=np.float64)
    last = np.append(values[1:] != values[:-1], True)[: values.size]
    return values[last], np.minimum(gained[last], 1.0)


def _area(rates: np.ndarray, overlaps: np.ndarray, limit: float) -> float:
    """Integrate by trapezoids from 0 to `limit`, interpolated at the limit, and divide by the limit."""
    end = int(np.searchsorted(rates, limit, "right"))
    x, y = rates[:end], overlaps[:end]
    if x[-1] < limit:
        share = (limit - x[-1]) / (rates[end] - x[-1])
        x = np.append(x, limit)
        y = np.append(y, y[-1] + share * (overlaps[end] - y[-1]))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)
