"""AU-PRO with 500 thresholds, as it is usually computed."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.measure import label, regionprops

THRESHOLDS = 500


def threshold_pro(maps: np.ndarray, masks: np.ndarray, limit: float, anew: bool = False) -> float:
    """AU-PRO from THRESHOLDS evenly spaced thresholds: at each, every region's overlap and the false positive rate.

    Args:
        maps: float [n, height, width], larger is more anomalous.
        masks: bool [n, height, width]; regions are 8-connected, and there is one at least.
        limit: false positive rate at which the area ends.
        anew: find the regions with scikit-image again at every threshold, as many programs do; else only once.

    Returns:
        The area by trapezoids, interpolated at the limit, over the limit: 0 to 1.
    """
    regions, good = find_regions(masks), ~masks
    rates, overlaps = [], []
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS):
        regions = regions_by_skimage(masks) if anew else regions
        found = maps >= threshold
        flat = found.reshape(len(maps), -1)
        overlaps.append(np.mean([flat[number, pixels].mean() for number, pixels in regions]))
        rates.append(np.count_nonzero(found & good) / np.count_nonzero(good))
    x, y = np.array([0.0, *rates]), np.array([0.0, *overlaps])
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)


def find_regions(masks: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return for each region the number of its picture and the flat positions of its pixels."""
    regions = []
    for number, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(number, np.flatnonzero(labels == label)) for label in range(1, count)]
    return regions


def regions_by_skimage(masks: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return the result of `find_regions`, computed by scikit-image's label and regionprops."""
    shape = masks.shape[1:]
    return [
        (number, np.ravel_multi_index(tuple(region.coords.T), shape))
        for number, mask in enumerate(masks)
        for region in regionprops(label(mask))
    ]
