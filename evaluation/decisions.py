"""False alarms and misses of a threshold on labelled pictures, with their rates; choice of a threshold for a goal."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

from deploy.errors import UserError

CONFIDENCE = 0.95
TOLD = {
    "told_at": "at threshold {level:.4f}: {parts}",
    "told_and": ", ",
    "told_good": "{count} of {total} good called defective ({low:.1f} to {high:.1f} %)",
    "told_defective": "{count} of {total} defects missed ({low:.1f} to {high:.1f} %)",
    "told_best": "; best F1 at {level:.4f}",
}
"""The English texts of `Decisions.told`."""


@dataclass(frozen=True)
class Goal:
    """The goal that a threshold is chosen for.

    - `f1`: the best F1.
    - `recall`, `precision`: at least `value` of it, and as much as possible of the other one.
    - `miss_cost`: the least cost, if a missed defect costs `value` times as much as a false alarm.
    """

    name: str
    value: float | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value:g}"

    @classmethod
    def parse(cls, text: str) -> Goal:
        """The inverse of `str`; ArgumentTypeError for anything else."""
        name, _, number = text.partition("=")
        with contextlib.suppress(ValueError):
            value = float(number) if number else None
            if (name == "f1" and value is None) or (name == "miss_cost" and value and 0 < value < math.inf):
                return cls(name, value)
            if name in ("recall", "precision") and value and 0 < value <= 1:
                return cls(name, value)
        raise argparse.ArgumentTypeError(f"{text!r} is none of f1, recall=0.95, precision=0.9, miss_cost=10")


BEST_F1 = Goal("f1")


def choose_threshold(scores: np.ndarray, defective: np.ndarray, goal: Goal) -> float:
    """Choose the threshold that reaches `goal` on these pictures; it is in the middle between two of their scores.

    If several thresholds reach it, the highest is chosen; for `precision` the lowest, which finds most defects.

    Args:
        scores: image scores [n], at least 0.
        defective: the truth [n], bool; at least one good and one defective picture.
        goal: the goal.

    Raises:
        UserError: there are no good or no defective pictures, or no threshold has the precision.
    """
    bad = int(defective.sum())
    if not 0 < bad < len(scores):
        raise UserError(f"{bad} of {len(scores)} labelled pictures are defective: a threshold needs both kinds")
    levels, number = np.unique(scores, return_inverse=True)
    # called[i] and found[i]: number of pictures, and of defective pictures, with a score of at least levels[i]
    called = np.cumsum(np.bincount(number)[::-1])[::-1]
    found = np.cumsum(np.bincount(number, weights=defective)[::-1])[::-1]
    if goal.name == "f1":
        places = np.flatnonzero(_largest(2 * found / (called + bad)))
    elif goal.name == "recall":
        places = np.flatnonzero(found >= goal.value * bad - 1e-9)
    elif goal.name == "miss_cost":
        places = np.flatnonzero(_largest(-goal.value * (bad - found) - (called - found)))
    else:
        places = np.flatnonzero(found >= goal.value * called - 1e-9)[:1]
    if not len(places):
        best = float(np.max(found / called))
        raise UserError(f"no threshold has a precision of {goal.value:g} on these pictures: the best is {best:.3f}")
    place = int(places[-1])
    below = levels[place - 1] if place else 0.0  # a score is never below 0
    return float((levels[place] + below) / 2)


def _largest(values: np.ndarray) -> np.ndarray:
    return values >= values.max() - 1e-12


class Decisions(NamedTuple):
    """Counts of wrong decisions at a threshold, and the threshold with the best F1 on these pictures."""

    threshold: float
    good: int
    """Number of good pictures, of which `false_alarms` were called defective."""
    false_alarms: int
    defective: int
    """Number of defective pictures, of which `misses` were called good."""
    misses: int
    best_threshold: float | None
    """None if there are no good or no defective pictures."""

    @classmethod
    def at(cls, threshold: float, scores: np.ndarray, defective: np.ndarray) -> Decisions:
        """Count decisions from image scores [n] and the truth [n], bool; a score above the threshold is a defect."""
        called, bad = scores > threshold, int(defective.sum())
        good = len(scores) - bad
        best = choose_threshold(scores, defective, BEST_F1) if good and bad else None
        alarms, misses = int((called & ~defective).sum()), int((~called & defective).sum())
        return cls(threshold, good, alarms, bad, misses, best)

    def __str__(self) -> str:
        """One line, with exact binomial intervals of the rates."""
        return self.told(TOLD)

    def told(self, words: Mapping[str, str]) -> str:
        """Return the line of `str`, with texts of another language; see TOLD."""
        parts = []
        if self.good:
            parts.append(words["told_good"].format(**_counted(self.false_alarms, self.good)))
        if self.defective:
            parts.append(words["told_defective"].format(**_counted(self.misses, self.defective)))
        best = "" if self.best_threshold is None else words["told_best"].format(level=self.best_threshold)
        return words["told_at"].format(level=self.threshold, parts=words["told_and"].join(parts)) + best


def interval(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact confidence interval of a binomial rate (Clopper and Pearson 1934) from `count` of `total`."""
    aside = (1 - confidence) / 2
    low = betaincinv(count, total - count + 1, aside) if count > 0 else 0.0
    high = betaincinv(count + 1, total - count, 1 - aside) if count < total else 1.0
    return float(low), float(high)


def _counted(count: int, total: int) -> dict[str, float]:
    low, high = interval(count, total)
    return {"count": count, "total": total, "low": 100 * low, "high": 100 * high}
