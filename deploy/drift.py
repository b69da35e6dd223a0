"""Drift detection: do the pictures of a stream still look like the good pictures that the model was fitted on?

Image scores and brightness are watched. Scores alone are not enough: good features hardly change with the light, so
scores show a change of light late.

The test is a conformal test martingale (Vovk, Nouretdinov and Gammerman 2003, "Testing exchangeability on-line"; the
mixture of bets is the simple jumper of Vovk et al. 2021, "Retrain or not retrain"). Every value is ranked among those
of the model's good training pictures and all values before it in the stream. While the values are exchangeable, each
rank is uniform, whatever came before. So a capital that is bet on high (or low) ranks at fair odds grows a hundredfold
with a probability of at most 1 %, however long the stream is (Ville's inequality).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

import numpy as np

LEVEL = 0.01
"""Probability of a false alarm, over the whole stream."""
SPARED = 0.05
"""A bet wins only if values are in the upper (or lower) half more often than in a share of 0.5 + SPARED. So a stream
in which up to twice this share of the pictures is defective does not count as drift."""
STAKES = np.array([0.0, 0.15, 0.4, 0.8])
JUMP = 0.01  # share of the capital that is distributed evenly over the stakes again after each bet


class Martingale:
    """A capital that is bet on the values of a stream being above the values before (`side` 1) or below (`side` -1).

    `good` are the values before the stream, in any order.
    """

    def __init__(self, good: Sequence[float], side: int = 1) -> None:
        self._seen, self._side, self._random = sorted(good), side, np.random.default_rng(0)
        self._capital = np.full(len(STAKES), 1 / len(STAKES))

    def add(self, value: float) -> float:
        """Add the next value; return what an initial capital of 1 has become."""
        lower, upper = bisect_left(self._seen, value), bisect_right(self._seen, value)
        # the rank among equal values, the new one included, is random, so that ranks are uniform with ties too
        rank = (lower + self._random.uniform(0, upper - lower + 1)) / (len(self._seen) + 1)
        insort(self._seen, value)
        self._capital *= 1 + 2 * STAKES * ((self._side * (rank - 0.5) > 0) - 0.5 - SPARED)
        self._capital = (1 - JUMP) * self._capital + JUMP * self._capital.mean()
        return float(self._capital.sum())


class Drift:
    """Watches a stream of pictures for rising scores and for rising or falling brightness.

    Half of the capital is bet on rising scores, a quarter each on rising and on falling brightness. The three capitals
    are separate; the evidence is their sum.

    Args:
        scores: the model's held-out scores of good pictures, in any order.
        brightness: mean pixel values, 0 to 255, of the same pictures.
        level: probability of a false alarm, over the whole stream.
    """

    def __init__(self, scores: Sequence[float], brightness: Sequence[float], level: float = LEVEL) -> None:
        self.level, self.pictures = level, 0
        self.alarm: int | None = None
        """Number of pictures after which the alarm came; None while there was none."""
        self._bets = {
            "scores rise": (0.5, Martingale(scores)),
            "pictures become brighter": (0.25, Martingale(brightness)),
            "pictures become darker": (0.25, Martingale(brightness, -1)),
        }
        self._won = {name: share for name, (share, _) in self._bets.items()}
        self._what = ""

    @property
    def evidence(self) -> float:
        """What an initial capital of 1 has become; the alarm comes at 1 / level."""
        return sum(self._won.values())

    def add(self, score: float, brightness: float) -> bool:
        """Add the next picture; return whether it raises the alarm (which is raised only once)."""
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
            f"drift: alarm at picture {self.alarm} of {self.pictures}: {self._what}, compared with the training "
            "pictures; look at camera and light, or train again"
        )
