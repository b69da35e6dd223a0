"""Setting a model's threshold by labelled pictures."""

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
    """Return the model's new own levels, with the threshold that reaches `goal` on these pictures.

    Args:
        calibration: the model's calibration.
        paths: paths of the n pictures; their fingerprints are recorded.
        scores: their image scores [n], at least 0.
        defective: the truth [n], bool.
        goal: the goal of the threshold.

    Raises:
        UserError: as `choose_threshold`, or a picture cannot be read.
    """
    threshold = choose_threshold(scores, defective, goal)
    good, bad = int((~defective).sum()), int(defective.sum())
    told = {"goal": str(goal), "good": good, "defective": bad, "pictures": picture_digests(list(paths))}
    return calibration.set_by(threshold, told)
