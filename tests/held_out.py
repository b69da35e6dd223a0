"""Whether a picture is held out with all that a model has of it."""

from __future__ import annotations

import numpy as np
import pytest

from models import AnomalyMethod


def check_held_out(model: AnomalyMethod, others: AnomalyMethod, pictures: list[np.ndarray]) -> None:
    """Fit `model` on nine pictures; held out, two of them must be scored as `others`, fitted without them, does."""
    answers: list[tuple[np.ndarray, float]] = []
    held_out = model.score_held_out
    model.score_held_out = lambda: (answers.append(answer) or answer for answer in held_out())
    model.fit(pictures)
    assert model.data["pictures"] == 9 and len(answers) == 9 == len(model.calibration.scores)
    for picture in (0, 8):
        others.fit(np.delete(np.stack(pictures), picture, axis=0))
        [expected] = others.predict(pictures[picture : picture + 1])
        np.testing.assert_allclose(answers[picture][0], expected.anomaly_map, rtol=0.01, atol=1e-3)
        assert answers[picture][1] == pytest.approx(expected.score, rel=0.01)
