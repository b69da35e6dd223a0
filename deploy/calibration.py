"""Thresholds and colour scale of a model, computed from the held-out scores of good pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from .conformal import TAIL_LEAST, Tail, least_rate, p_value, threshold_for
from .errors import UserError

FALSE_ALARM = 0.05
"""Default false alarm rate; docs/thresholds.md says how many defects are found with it."""
RATE_HELP = "threshold that calls this share of good pictures defective"


@dataclass(frozen=True)
class Calibration:
    """Levels (thresholds and colour scale) from held-out good training pictures; test pictures are not used."""

    scores: tuple[float, ...]
    """Image scores of the good pictures, ascending."""
    maxima: tuple[float, ...]
    """Largest values of their maps, ascending."""
    map_low: float
    """Map value at the start of the colour scale: the median over good pictures."""
    map_high: float
    """Map value at the end of the colour scale; the model's own pixel threshold is in the middle of the scale."""
    false_alarm: float | None
    """False alarm rate, the share of good pictures that the thresholds call defective; None if the user or labelled
    pictures set the threshold."""
    image_threshold: float
    """A picture with an image score above this is called defective."""
    pixel_threshold: float
    """Map values above this are inside the drawn contour."""
    brightness: tuple[float, ...] = ()
    """Mean pixel values, 0 to 255, of the same pictures after resizing and cropping, ascending."""
    labelled: dict[str, Any] | None = None
    """If labelled pictures set the thresholds: `goal`, the numbers `good` and `defective`, and in `pictures` their
    fingerprints."""
    own: Calibration | None = None
    """The model's own levels, if these levels are for one run only (see `at`)."""

    @classmethod
    def from_good(cls, answers: Iterable[tuple[np.ndarray, float]], false_alarm: float = FALSE_ALARM) -> Calibration:
        """Make a calibration from the map [height, width] and image score of every held-out good picture.

        Raises:
            UserError: the rate is not between 0 and 1.
        """
        return cls.from_levels([levels_of(*answer) for answer in answers], false_alarm)

    @classmethod
    def from_levels(cls, rows: Sequence[tuple[float, float, float]], false_alarm: float) -> Calibration:
        """Make a calibration from the result of `levels_of` for every held-out good picture; UserError as above."""
        check_rate(false_alarm)
        scores, maxima, medians = (_short(values) for values in np.array(rows, np.float64).T)
        return cls._of(scores, maxima, float(np.median(medians)), float(false_alarm))

    @classmethod
    def _of(cls, scores: Sequence[float], maxima: Sequence[float], low: float, false_alarm: float) -> Calibration:
        level = threshold_for(maxima, false_alarm)
        return cls(scores, maxima, low, 2 * level - low, false_alarm, threshold_for(scores, false_alarm), level)

    def with_brightness(self, values: Sequence[float]) -> Calibration:
        """Return a copy with the good pictures' mean pixel values."""
        return replace(self, brightness=_short(np.array(values)))

    def joined(self, earlier: Calibration, factors: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Calibration:
        """Return the levels from these good pictures and those of `earlier` together, with this false alarm rate.

        The image scores, map maxima and map medians of `earlier` are multiplied by the three `factors`.
        """
        own, count = earlier.own or earlier, self.pictures + earlier.pictures
        scores = _short(np.array([*self.scores, *(value * factors[0] for value in own.scores)]))
        maxima = _short(np.array([*self.maxima, *(value * factors[1] for value in own.maxima)]))
        # the medians of single pictures were not kept, only the median over them: so the mean, weighted by pictures
        low = (self.pictures * self.map_low + own.pictures * own.map_low * factors[2]) / count
        both = self._of(scores, maxima, low, self.false_alarm)
        return both.with_brightness([*self.brightness, *own.brightness])

    def without(self, rows: Sequence[tuple[float, float, float]], brightness: Sequence[float]) -> Calibration:
        """Return the model's own levels after pictures are taken out.

        It is not recorded which level belongs to which picture. So for each picture the stored values are removed that
        are nearest to its levels in `rows` (see `levels_of`) and to its `brightness`.
        """
        own = self.own or self
        values = {"scores": [row[0] for row in rows], "maxima": [row[1] for row in rows], "brightness": brightness}
        left = {name: np.array(getattr(own, name)) for name in values}
        for name, gone in values.items():
            for value in gone:
                left[name] = np.delete(left[name], np.abs(left[name] - value).argmin() if len(left[name]) else [])
        found = self._of(_short(left["scores"]), _short(left["maxima"]), own.map_low, own.false_alarm or FALSE_ALARM)
        return found.with_brightness(left["brightness"])

    @property
    def pictures(self) -> int:
        """Number of good pictures that the levels come from."""
        return len(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Return the model's own levels as plain json types, for `from_dict`."""
        return {name: value for name, value in asdict(self.own or self).items() if name != "own"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of `to_dict`."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})

    def p_value(self, score: float) -> float:
        """Upper bound of the share of good pictures whose image score is as high, see `deploy.conformal.p_value`."""
        return p_value(self.scores, score)

    def p_value_of_map(self, maximum: float) -> float:
        """Upper bound of the share of good pictures whose map has a value as high."""
        return p_value(self.maxima, maximum)

    def p_tail(self, score: float) -> float | None:
        """Estimated share of good pictures whose image score is as high, from a fitted tail.

        None if a good picture scores as high (`p_value` is enough then), and with TAIL_LEAST or fewer good pictures,
        which are too few to estimate a tail.
        """
        if score <= self.scores[-1] or len(self.scores) <= TAIL_LEAST:
            return None
        return min(self._tail.probability(score), least_rate(self.scores))  # in this order nan stays nan

    @cached_property
    def _tail(self) -> Tail:
        return Tail(self.scores)

    def scaled(self, score: float) -> float:
        """Scale an image score so that 0 is the median of good pictures and 0.5 is the model's own threshold.

        So models and methods can be compared although their scores have different levels and spreads. The value has no
        limits: half of the good pictures are below 0, and defects may be far above 1.
        """
        low, threshold = self._scale
        if threshold > low:
            return 0.5 * (score - low) / (threshold - low)
        return 0.0 if score <= threshold else math.inf

    @cached_property
    def _scale(self) -> tuple[float, float]:
        """The image scores whose scaled values are 0 and 0.5.

        They are the median of good pictures and the threshold; if the threshold is not above the median, 0 and the
        threshold.
        """
        threshold, median = (self.own or self).image_threshold, float(np.median(self.scores))
        return (median if median < threshold else 0.0), threshold

    def is_defect(self, score: float) -> bool:
        """Whether an image score is above the threshold."""
        return score > self.image_threshold

    def at(self, threshold: float | None = None, scaled: bool = True, false_alarm: float | None = None) -> Calibration:
        """Return the levels for one run: for another false alarm rate, for another image threshold, or these levels.

        A threshold is `scaled` (0.5 is the model's own) or raw; the pixel threshold changes in proportion. The colour
        scale and the scaling of `scaled` do not change, since they belong to the model.

        Raises:
            UserError: the threshold is not a score above 0, the rate is not between 0 and 1, or both are given.
        """
        own = self.own or self
        if threshold is not None and false_alarm is not None:
            raise UserError("--threshold and --false_alarm both set the threshold: give one of them")
        if false_alarm is not None:
            check_rate(false_alarm)
            levels = threshold_for(own.scores, false_alarm), threshold_for(own.maxima, false_alarm)
            return own._for_one_run(*levels, false_alarm)
        if threshold is None:
            return self
        low, middle = own._scale
        level = low + (middle - low) * threshold / 0.5 if scaled else threshold
        if not 0 < level < math.inf:
            raise UserError(f"--threshold {threshold:g} is a score of {level:g}: it must be above 0, and a number")
        return own._for_one_run(level, own.pixel_threshold * level / max(own.image_threshold, 1e-12), None)

    def _for_one_run(self, image: float, pixel: float, false_alarm: float | None) -> Calibration:
        """Return the model's own levels with other thresholds for one run."""
        levels = {"image_threshold": image, "pixel_threshold": pixel, "false_alarm": false_alarm}
        return replace(self, **levels, labelled=None, own=self)

    def set_by(self, threshold: float, labelled: dict[str, Any]) -> Calibration:
        """Return new own levels of the model with an image threshold that labelled pictures set.

        `labelled` is described at the field of this name. The pixel threshold changes in proportion; the colour scale
        stays.
        """
        return replace(self.at(threshold, scaled=False), labelled=labelled, own=None)

    def __str__(self) -> str:
        """The threshold, and the false alarm rate or the goal that it was chosen for."""
        if self.labelled is not None:
            told = self.labelled
            count = f"{told['good']} good and {told['defective']} defective pictures"
            return f"threshold {self.image_threshold:.4f} for {told['goal']}, set by {count}"
        if self.false_alarm is None:
            return f"threshold {self.image_threshold:.4f}"
        return f"threshold {self.image_threshold:.4f} for a false alarm rate of {self.false_alarm:g}"

    def warning(self) -> str | None:
        """Return one line if there are too few good pictures for the false alarm rate, else None."""
        least = least_rate(self.scores)
        if self.false_alarm is None or self.false_alarm >= least:
            return None
        return (
            f"{self.pictures} good pictures can promise a false alarm rate of {least:.2g}, not {self.false_alarm:g}; "
            "the threshold is an estimate from the tail of their scores"
        )


def levels_of(anomaly_map: np.ndarray, score: float) -> tuple[float, float, float]:
    """Image score, largest and median value of the map [height, width] of one picture."""
    return float(score), float(anomaly_map.max()), float(np.median(anomaly_map))


def check_rate(rate: float) -> None:
    """Raise UserError for a rate that is not between 0 and 1."""
    if not isinstance(rate, Real) or not 0 < rate < 1:
        raise UserError(f"--false_alarm {rate}: give a rate above 0 and below 1, for instance {FALSE_ALARM}")


def _short(values: np.ndarray) -> tuple[float, ...]:
    """Sort values ascending, and round them to the digits of a float32, since they are written as text."""
    return tuple(float(f"{value:.8g}") for value in np.sort(values))
