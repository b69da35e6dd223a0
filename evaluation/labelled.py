"""A model's threshold, set by pictures with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.readers.labelled import picture_digests
from deploy.calibration import Calibration

from .decisions import Goal, choose_threshold


def calibrated(
    calibration: Calibration, paths: Sequence[Path], scores: np.ndarray, defective: np.ndarray, goal: Goal
) -> Calibration:
    """The model's new own levels, for `goal` on these pictures.

    Args:
        calibration: the model's.
        paths: of the pictures, n of them, whose fingerprints are noted.
        scores: their image scores [n], 0 and up.
        defective: the truth [n], bool.
        goal: what the threshold is chosen for.

    Raises:
        UserError: as `choose_threshold`, or a picture cannot be read.
    """
    threshold = choose_threshold(scores, defective, goal)
    good, bad = int((~defective).sum()), int(defective.sum())
    told = {"goal": str(goal), "good": good, "defective": bad, "pictures": picture_digests(list(paths))}
    return calibration.set_by(threshold, told)
