"""What a threshold decides on test pictures: false alarms and misses, with the rates that they stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import beta

CONFIDENCE = 0.95


class Decisions(NamedTuple):
    """Counts at one threshold, and the threshold whose F1 is the best of all on these pictures."""

    threshold: float
    good: int
    false_alarms: int
    defective: int
    misses: int
    best_threshold: float | None
    """None without good or without defective pictures."""

    @classmethod
    def at(cls, threshold: float, scores: np.ndarray, defective: np.ndarray) -> Decisions:
        """Of image scores [n] and the truth [n], bool; a score above the threshold is called a defect."""
        called, bad = scores > threshold, int(defective.sum())
        good, best = len(scores) - bad, None
        if bad and good:
            order = np.argsort(-scores, kind="stable")
            found = np.cumsum(defective[order])
            f1 = 2 * found / (np.arange(1, len(scores) + 1) + bad)
            last_of_ties = np.append(np.diff(scores[order]) != 0, True)
            place = int(np.argmax(np.where(last_of_ties, f1, -1)))
            following = scores[order[place + 1]] if place + 1 < len(scores) else scores[order[place]]
            best = float((scores[order[place]] + following) / 2)
        alarms, misses = int((called & ~defective).sum()), int((~called & defective).sum())
        return cls(threshold, good, alarms, bad, misses, best)

    def __str__(self) -> str:
        """One line, with exact binomial intervals of the rates."""
        parts = []
        if self.good:
            parts.append(
                f"{self.false_alarms} of {self.good} good called defective ({_rates(self.false_alarms, self.good)})"
            )
        if self.defective:
            parts.append(f"{self.misses} of {self.defective} defects missed ({_rates(self.misses, self.defective)})")
        best = "" if self.best_threshold is None else f"; best F1 at {self.best_threshold:.4f}"
        return f"at threshold {self.threshold:.4f}: {', '.join(parts)}{best}"


def interval(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a binomial rate (Clopper and Pearson 1934) of which `count` in `total` were seen."""
    aside = (1 - confidence) / 2
    low = beta.ppf(aside, count, total - count + 1) if count > 0 else 0.0
    high = beta.ppf(1 - aside, count + 1, total - count) if count < total else 1.0
    return float(low), float(high)


def _rates(count: int, total: int) -> str:
    low, high = interval(count, total)
    return f"{100 * low:.1f} to {100 * high:.1f} %"
