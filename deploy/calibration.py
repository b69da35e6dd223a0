"""Thresholds and colour scale of a model, fixed when it is fitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .errors import UserError


@dataclass(frozen=True)
class Calibration:
    """Levels taken from good training pictures, each scored without its own patches; test pictures play no part."""

    image_threshold: float
    """An image score above this is called a defect."""
    pixel_threshold: float
    """Map values above this are drawn inside the contour."""
    map_low: float
    """The map value where the colour scale starts: the median over good pictures."""
    map_high: float
    """The map value where it ends; the pixel threshold is its middle."""
    pictures: int
    """How many good pictures the levels come from."""
    deviations: float = 3.0
    """Thresholds are mean + `deviations` standard deviations of the good pictures' scores and map maxima."""
    own: Calibration | None = None
    """The model's own levels, where these are for a threshold that the user gave (see `at`)."""

    @classmethod
    def from_good(cls, answers: Iterable[tuple[np.ndarray, float]]) -> Calibration:
        """From the map [height, width] and image score of every held-out good picture."""
        rows = [(score, anomaly_map.max(), np.median(anomaly_map)) for anomaly_map, score in answers]
        scores, maxima, medians = np.array(rows, np.float64).T

        def level(values: np.ndarray) -> float:
            return float(values.mean() + cls.deviations * values.std())

        low, threshold = float(np.median(medians)), level(maxima)
        return cls(level(scores), threshold, low, 2 * threshold - low, len(scores))

    def to_dict(self) -> dict[str, Any]:
        """The model's own values as plain json types, for `from_dict`."""
        return {name: value for name, value in asdict(self.own or self).items() if name != "own"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of `to_dict`."""
        return cls(**values)

    def scaled(self, score: float) -> float:
        """An image score scaled so that the model's own threshold is 0.5; 0 stays 0, not clamped."""
        threshold = (self.own or self).image_threshold
        return 0.5 * score / threshold if threshold > 0 else (0.0 if score <= 0 else float("inf"))

    def is_defect(self, score: float) -> bool:
        """Whether an image score is above the threshold."""
        return score > self.image_threshold

    def at(self, threshold: float | None, scaled: bool) -> Calibration:
        """The same levels for another image threshold, `scaled` (0.5 is the model's own) or raw.

        The pixel threshold moves along; the colour scale and what `scaled` gives stay, since they belong to the model.

        Raises:
            UserError: the threshold is not above 0.
        """
        if threshold is None:
            return self
        if not threshold > 0:
            raise UserError(f"--threshold {threshold} must be above 0")
        own = self.own or self
        factor = threshold / 0.5 if scaled else threshold / max(own.image_threshold, 1e-12)
        level = own.image_threshold * factor if scaled else threshold
        return replace(own, image_threshold=level, pixel_threshold=own.pixel_threshold * factor, own=own)
