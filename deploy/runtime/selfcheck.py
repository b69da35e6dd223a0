"""A known picture and the answer to it: a program that answers otherwise on this machine is refused."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..pictures.preprocess import Preprocess

SCORE, MAP = "selfcheck.score", "selfcheck.map"
STEP = 4  # every 4th row and column of the map is kept
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 5e-2}
"""Largest `difference` accepted."""
LOCAL = 0.01
"""What the worst pixel counts: where two rows of a memory bank are about equally near, another machine's rounding may
make a coarse search settle for the other one, which changes the map around one patch by some percent."""


def probe(preprocess: Preprocess) -> np.ndarray:
    """The known picture's crop, uint8 [1, height, width, 3]: waves, edges and grain, from a formula alone."""
    height, width = preprocess.size
    y, x = np.mgrid[:height, :width].astype(np.int64)
    waves = 128 + 60 * np.sin(x / 7.0) * np.cos(y / 11.0)
    edges = 50 * ((x // 29 + y // 37) % 2)
    grain = (x * 73856093 ^ y * 19349663) % 41 - 20
    planes = [waves + edges + grain, waves + grain // 2, 220 - edges + grain]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)[None]


def expected(anomaly_map: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors to store, from the answer to `probe`: map [1, height, width] and score [1]."""
    return {SCORE: score.astype(np.float32), MAP: anomaly_map[:, ::STEP, ::STEP].astype(np.float32)}


def difference(tensors: dict[str, np.ndarray], anomaly_map: np.ndarray, score: np.ndarray) -> float:
    """How far an answer is from the stored one, relative to the largest stored value; infinite if not comparable.

    The largest of the score's difference, the map's mean difference, and LOCAL of the map's largest difference.
    """
    known_map, known_score = tensors[MAP], tensors[SCORE]
    given_map = anomaly_map[:, ::STEP, ::STEP]
    if given_map.shape != known_map.shape or score.shape != known_score.shape:
        return float("inf")
    scale = max(float(np.abs(known_map).max()), float(np.abs(known_score).max()), 1e-12)
    off = np.abs(given_map - known_map)
    # of numpy, as Python's max passes over what is no number
    worst = np.max([np.abs(score - known_score).max(), off.mean(), LOCAL * off.max()]) / scale
    return float(worst) if np.isfinite(worst) else float("inf")


def verify(
    tensors: dict[str, np.ndarray], anomaly_map: np.ndarray, score: np.ndarray, precision: str, name: str
) -> float:
    """Return the difference; UserError when it exceeds the precision's tolerance."""
    found = difference(tensors, anomaly_map, score)
    if found > TOLERANCE[precision]:
        raise UserError(
            f"{name} fails its self-check on this machine: it differs by {found:.1e} from the answer stored with the "
            f"model ({TOLERANCE[precision]:.0e} allowed); use the program and stats of one export, or switch oneDNN"
        )
    return found
