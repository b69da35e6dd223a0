"""Whether good pictures still look like those that the model was fitted on: their image scores and their brightness.

Scores alone would not do: good features hardly change with the light, so scores do not either, until they do.

A conformal test martingale (Vovk, Nouretdinov and Gammerman 2003, "Testing exchangeability on-line"; the mixture of
bets is the simple jumper of Vovk et al. 2021, "Retrain or not retrain"). Every value is ranked among those of the
model's good training pictures and all before it. While they are exchangeable, its rank is uniform whatever came
before, so a capital that bets on high (or low) ranks at fair odds grows a hundredfold with a probability of 1 % at
most, however long the stream runs (Ville's inequality).
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


class Martingale:
    """The capital of one who bets that values of a stream lie above those before, `side` 1, or below, `side` -1.

    `good` are the values that come before the stream, in any order.
    """

    def __init__(self, good: Sequence[float], side: int = 1) -> None:
        self._seen, self._side, self._random = sorted(good), side, np.random.default_rng(0)
        self._capital = np.full(len(STAKES), 1 / len(STAKES))

    def add(self, value: float) -> float:
        """Take the next value; return what a capital of 1 has become."""
        lower, upper = bisect_left(self._seen, value), bisect_right(self._seen, value)
        # among equal ones its place is drawn, itself included, so that ranks are uniform with ties too
        rank = (lower + self._random.uniform(0, upper - lower + 1)) / (len(self._seen) + 1)
        insort(self._seen, value)
        self._capital *= 1 + 2 * STAKES * ((self._side * (rank - 0.5) > 0) - 0.5 - SPARED)
        self._capital = (1 - JUMP) * self._capital + JUMP * self._capital.mean()
        return float(self._capital.sum())


class Drift:
    """Watches a stream of pictures: scores that rise, and brightness that rises or falls.

    Half of the capital is bet on scores, a quarter on each of the others. What is won with one stays there.

    Args:
        scores: the model's held-out scores of good pictures, in any order.
        brightness: the mean values, 0 to 255, of the same pictures.
        level: the probability of a false alarm, over the whole stream.
    """

    def __init__(self, scores: Sequence[float], brightness: Sequence[float], level: float = LEVEL) -> None:
        self.level, self.pictures = level, 0
        self.alarm: int | None = None
        """After how many pictures the alarm came; None while there was none."""
        self._bets = {
            "scores rise": (0.5, Martingale(scores)),
            "pictures become brighter": (0.25, Martingale(brightness)),
            "pictures become darker": (0.25, Martingale(brightness, -1)),
        }
        self._won = {name: share for name, (share, _) in self._bets.items()}
        self._what = ""

    @property
    def evidence(self) -> float:
        """The capital that 1 has become; an alarm comes at 1 / level."""
        return sum(self._won.values())

    def add(self, score: float, brightness: float) -> bool:
        """Take the next picture; True where the alarm comes with it."""
        for (name, (share, bet)), value in zip(self._bets.items(), (score, brightness, brightness)):
            self._won[name] = share * bet.add(value)
        self.pictures += 1
        if self.alarm is not None or self.evidence < 1 / self.level:
            return False
        self.alarm, self._what = self.pictures, max(self._won, key=lambda name: self._won[name])
        return True

    def __str__(self) -> str:
        """One line about the stream so far."""
        if self.alarm is None:
            told = f"evidence {self.evidence:.2g}, of {1 / self.level:g} for an alarm"
            return f"drift: none in {self.pictures} pictures ({told})"
        return (
            f"drift: alarm at picture {self.alarm} of {self.pictures}: {self._what}, beside the training pictures"
            "; look at camera and light, or train again"
        )
