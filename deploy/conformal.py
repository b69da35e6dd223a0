"""What the scores of good pictures say of a new one: conformal p-values, thresholds for a rate, and a fitted tail.

If a new good picture's score is exchangeable with those of n held-out good pictures, the share of pictures that score
so high is at most what `p_value` says, in finite samples and whatever the scores' distribution (Vovk, Gammerman and
Shafer 2005, "Algorithmic Learning in a Random World", chapter 2). Scoring each of n pictures by a model of the other
n - 1 instead of one fixed model is the jackknife+ (Barber et al. 2021), which keeps the rate in practice and at most
doubles it in the worst case.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

TAIL_SHARE = 5  # the tail is fitted to the largest one in this many,
TAIL_LEAST = 10  # but to this many where there are
HEAVIEST = 0.5  # shape above which a tail has no variance


def p_value(good: Sequence[float], score: float) -> float:
    """The share of good pictures that score as high: (1 + how many of `good` do) / (1 + their number), 0 to 1.

    Args:
        good: ascending scores of good pictures.
        score: of a new picture.
    """
    return (1 + len(good) - bisect_left(good, score)) / (1 + len(good))


def least_rate(good: Sequence[float]) -> float:
    """The smallest rate that so many good pictures can promise."""
    return 1 / (1 + len(good))


def threshold_for(good: Sequence[float], rate: float) -> float:
    """The level that good pictures exceed with probability `rate`, or less.

    It is the score whose place among the ascending `good` is ceil((n + 1)(1 - rate)). Where `rate` is less than
    `least_rate` there is none, and the level is an estimate from the fitted tail, or the largest of `good` where that
    is higher, since it is the level for `least_rate`.
    """
    place = math.ceil((len(good) + 1) * (1 - rate) - 1e-9)
    return good[place - 1] if place <= len(good) else max(good[-1], Tail(good).level(rate))


class Tail:
    """A generalised Pareto distribution of what the largest of `good` exceed the others by.

    Its scale and shape are Hosking and Wallis' (1987) from probability-weighted moments. The shape is never below 0, so
    the tail has no end: a picture that scores higher than all good ones is improbable, and not impossible.
    """

    def __init__(self, good: Sequence[float]) -> None:
        count = min(len(good) - 1, max(TAIL_LEAST, len(good) // TAIL_SHARE))
        self.start = good[-count - 1] if count > 0 else good[-1]
        self.share = max(count, 1) / (1 + len(good))
        excess = np.array(good[-count:] if count > 0 else [0.0], np.float64) - self.start
        weight = 1 - (np.arange(1, len(excess) + 1) - 0.35) / len(excess)
        first, second = excess.mean(), (weight * excess).mean()
        spread = first - 2 * second
        shape = 2 - first / spread if spread > 0 else 0.0
        self.shape = min(max(shape, 0.0), HEAVIEST)
        self.scale = first * (1 - self.shape)  # the mean excess is scale / (1 - shape)

    def probability(self, score: float) -> float:
        """How probably a good picture scores above `score`, which lies in the tail."""
        over = score - self.start
        if over <= 0 or self.scale <= 0:
            return self.share if over <= 0 else 0.0
        if self.shape < 1e-6:
            return self.share * math.exp(-over / self.scale)
        return self.share * (1 + self.shape * over / self.scale) ** (-1 / self.shape)

    def level(self, rate: float) -> float:
        """The score above which a good picture is with probability `rate`, at most `share`."""
        ratio = self.share / rate
        if self.shape < 1e-6:
            return float(self.start + self.scale * math.log(ratio))
        return float(self.start + self.scale / self.shape * (ratio**self.shape - 1))
