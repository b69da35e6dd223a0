"""Self-check: a program is run on a known picture; if the result differs from the stored one, it is refused."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..pictures.preprocess import Preprocess

SCORE, MAP = "selfcheck.score", "selfcheck.map"
STEP = 4  # every 4th row and column of the map is stored
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 5e-2}
"""Largest `difference` that is accepted, by precision."""
LOCAL = 0.01
"""Weight of the worst pixel. If two rows of a memory bank are about equally near, a coarse search may choose the other
one on another machine, because of rounding. This changes the map around one patch by some percent."""


def probe(preprocess: Preprocess) -> np.ndarray:
    """Return the known picture as a crop, uint8 [1, height, width, 3]: waves, edges and grain by a formula."""
    height, width = preprocess.size
    y, x = np.mgrid[:height, :width].astype(np.int64)
    waves = 128 + 60 * np.sin(x / 7.0) * np.cos(y / 11.0)
    edges = 50 * ((x // 29 + y // 37) % 2)
    grain = (x * 73856093 ^ y * 19349663) % 41 - 20
    planes = [waves + edges + grain, waves + grain // 2, 220 - edges + grain]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)[None]


def expected(anomaly_map: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tensors to store, from the result for `probe`: map [1, height, width] and score [1]."""
    return {SCORE: score.astype(np.float32), MAP: anomaly_map[:, ::STEP, ::STEP].astype(np.float32)}


def difference(tensors: dict[str, np.ndarray], anomaly_map: np.ndarray, score: np.ndarray) -> float:
    """Difference of a result from the stored one, relative to the largest stored value; infinite if not comparable.

    It is the largest of: the score's difference, the map's mean difference, LOCAL times the map's largest difference.
    """
    known_map, known_score = tensors[MAP], tensors[SCORE]
    given_map = anomaly_map[:, ::STEP, ::STEP]
    if given_map.shape != known_map.shape or score.shape != known_score.shape:
        return float("inf")
    scale = max(float(np.abs(known_map).max()), float(np.abs(known_score).max()), 1e-12)
    off = np.abs(given_map - known_map)
    # numpy's max, because Python's max may ignore NaN
    worst = np.max([np.abs(score - known_score).max(), off.mean(), LOCAL * off.max()]) / scale
    return float(worst) if np.isfinite(worst) else float("inf")


def verify(
    tensors: dict[str, np.ndarray], anomaly_map: np.ndarray, score: np.ndarray, precision: str, name: str
) -> float:
    """Return the `difference`; UserError if it is larger than the precision's tolerance."""
    found = difference(tensors, anomaly_map, score)
    if found > TOLERANCE[precision]:
        raise UserError(
            f"{name} fails its self-check on this machine: it differs by {found:.1e} from the answer stored with the "
            f"model ({TOLERANCE[precision]:.0e} allowed); use the program and stats of one export, or switch oneDNN"
        )
    return found
