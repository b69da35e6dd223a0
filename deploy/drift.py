"""Whether good pictures still look like those that the model was fitted on, from their scores alone.

A conformal test martingale (Vovk, Nouretdinov and Gammerman 2003, "Testing exchangeability on-line"; the mixture of
bets is the simple jumper of Vovk et al. 2021, "Retrain or not retrain"). Every score is ranked among those of the
model's held-out good pictures and all before it. While they are exchangeable, its rank is uniform whatever came
before, so a capital that bets on high ranks at fair odds grows a hundredfold with a probability of 1 % at most, however
long the stream runs (Ville's inequality).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

import numpy as np

LEVEL = 0.01
"""The probability of an alarm, ever, while nothing has changed."""
SPARED = 0.05
"""So much more often than half of the time a score may lie in the upper half: a stream in which up to twice this share
of the pictures is defective is no drift."""
STAKES = np.array([0.0, 0.15, 0.4, 0.8])
JUMP = 0.01  # share of the capital that is dealt out anew over the stakes after each bet


class Drift:
    """Watches a stream of scores. It sees scores that rise: a stream of lower ones never alarms.

    Args:
        good: the model's held-out scores of good pictures, in any order.
        level: the probability of a false alarm, over the whole stream.
    """

    def __init__(self, good: Sequence[float], level: float = LEVEL) -> None:
        self.level, self.pictures = level, 0
        self.alarm: int | None = None
        """After how many pictures the alarm came; None while there was none."""
        self._seen, self._random = sorted(good), np.random.default_rng(0)
        self._capital = np.full(len(STAKES), 1 / len(STAKES))

    @property
    def evidence(self) -> float:
        """The capital that 1 has become; an alarm comes at 1 / level."""
        return float(self._capital.sum())

    def add(self, score: float) -> bool:
        """Take the next picture's score; True where the alarm comes with it."""
        lower, upper = bisect_left(self._seen, score), bisect_right(self._seen, score)
        # among equal ones its place is drawn, itself included, so that ranks are uniform with ties too
        rank = (lower + self._random.uniform(0, upper - lower + 1)) / (len(self._seen) + 1)
        insort(self._seen, score)
        self._capital *= 1 + 2 * STAKES * ((rank > 0.5) - 0.5 - SPARED)
        self._capital = (1 - JUMP) * self._capital + JUMP * self._capital.mean()
        self.pictures += 1
        if self.alarm is not None or self.evidence < 1 / self.level:
            return False
        self.alarm = self.pictures
        return True

    def __str__(self) -> str:
        """One line about the stream so far."""
        if self.alarm is None:
            told = f"evidence {self.evidence:.2g}, of {1 / self.level:g} for an alarm"
            return f"drift: none in {self.pictures} pictures ({told})"
        return (
            f"drift: alarm at picture {self.alarm} of {self.pictures}: scores lie above those of the training pictures"
            "; look at camera and light, or train again"
        )
