"""AU-PRO by 500 thresholds, as it is widely computed, beside `evaluation.aupro`: values and times.

python -m benchmarks.threshold_pro            on 83 drawn maps of 224 x 224
python -m benchmarks.threshold_pro MAPS.npz   on the arrays `maps` [n, height, width] and `masks` (bool) of a file
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from evaluation.aupro import aupro

THRESHOLDS = 500
LIMIT = 0.3


def threshold_pro(maps: np.ndarray, masks: np.ndarray, anew: bool = False, limit: float = LIMIT) -> float:
    """AU-PRO from THRESHOLDS evenly spaced thresholds: at each, every region's overlap and the false positive rate.

    Args:
        maps: float [n, height, width], larger is more anomalous.
        masks: bool [n, height, width]; regions are 8-connected, and there is one at least.
        anew: label the masks again at every threshold, as much code in use does; else once.
        limit: false positive rate at which the area ends.

    Returns:
        The area by trapezoids, interpolated at the limit, over the limit: 0 to 1.
    """
    regions, good = find_regions(masks), ~masks
    rates, overlaps = [], []
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS):
        regions = find_regions(masks) if anew else regions
        found = maps >= threshold
        flat = found.reshape(len(maps), -1)
        overlaps.append(np.mean([flat[number, pixels].mean() for number, pixels in regions]))
        rates.append(np.count_nonzero(found & good) / np.count_nonzero(good))
    x, y = np.array([0.0, *rates]), np.array([0.0, *overlaps])
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)


def find_regions(masks: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Per region the number of its picture and the flat positions of its pixels."""
    regions = []
    for number, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(number, np.flatnonzero(labels == label)) for label in range(1, count)]
    return regions


def drawn(count: int = 83, side: int = 224, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps float32 and masks bool, both [count, side, side]: a quarter good, else one to three blots."""
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(count):
        mask = np.zeros((side, side), np.uint8)
        for _ in range(random.integers(1, 4) if number % 4 else 0):
            centre, axes = random.integers(30, side - 30, 2), random.integers(4, 30, 2)
            cv2.ellipse(mask, centre.tolist(), axes.tolist(), random.uniform(0, 180), 0, 360, 1, -1)
        noise = cv2.GaussianBlur(random.random((side, side), np.float32), (0, 0), 4)
        maps.append(noise + 0.1 * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 6))
        masks.append(mask > 0)
    return np.stack(maps), np.stack(masks)


def best_of(runs: int, call: Callable[[], float]) -> tuple[float, float]:
    """What `call` returns, and its least time in seconds."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - begin)
    return value, min(times)


def main() -> None:
    """Print values and times."""
    if len(sys.argv) > 1:
        with np.load(sys.argv[1]) as file:
            maps, masks = file["maps"], file["masks"]
    else:
        maps, masks = drawn()
    cv2.setNumThreads(1)
    exact, exact_time = best_of(5, lambda: aupro(maps, masks, (LIMIT,))[0])
    print(f"{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]}, AU-PRO to {LIMIT}")
    print(f"evaluation.aupro, every map value a threshold: {exact:.6f} in {exact_time:.3f} s")
    for anew in (False, True):
        coarse, coarse_time = best_of(1, lambda anew=anew: threshold_pro(maps, masks, anew))
        print(f"{THRESHOLDS} thresholds, regions found {'at each' if anew else 'once'}: {coarse:.6f} in", end=" ")
        print(
            f"{coarse_time:.2f} s, {coarse_time / exact_time:.0f} times as long; differs by {abs(exact - coarse):.1e}"
        )


if __name__ == "__main__":
    main()
