"""Conformal p-values, thresholds for a false alarm rate, and a fitted tail, from the scores of good pictures.

Let the score of a new good picture be exchangeable with those of n held-out good pictures. Then the share of good
pictures that score as high is at most `p_value`, for any n and any distribution of the scores (Vovk, Gammerman and
Shafer 2005, "Algorithmic Learning in a Random World", chapter 2). Here each of the n pictures is scored by a model of
the other n - 1, not by one fixed model. This is the jackknife+ (Barber et al. 2021): in practice the rate holds, and in
the worst case it is at most twice as large.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

TAIL_SHARE = 5  # the tail is fitted to the largest 1 / TAIL_SHARE of the scores,
TAIL_LEAST = 10  # but to at least TAIL_LEAST scores, if there are more than that
HEAVIEST = 0.5  # largest shape allowed: from this shape on, the tail has no variance


def p_value(good: Sequence[float], score: float) -> float:
    """Upper bound of the share of good pictures that score at least `score`, 0 to 1.

    It is (1 + number of `good` scores that are at least `score`) / (1 + number of all `good` scores).

    Args:
        good: ascending scores of good pictures.
        score: score of a new picture; nan, which is no score, has the value nan.
    """
    if math.isnan(score):
        return math.nan
    return (1 + len(good) - bisect_left(good, score)) / (1 + len(good))


def least_rate(good: Sequence[float]) -> float:
    """The smallest false alarm rate that can be guaranteed with this number of good pictures."""
    return 1 / (1 + len(good))


def threshold_for(good: Sequence[float], rate: float) -> float:
    """The threshold that good pictures exceed with a probability of at most `rate`.

    It is the score at place ceil((n + 1)(1 - rate)) of the ascending `good`, counted from 1. If `rate` is less than
    `least_rate`, there is no such place. Then the threshold is an estimate from the fitted tail, but at least the
    largest of `good`, which is the threshold for `least_rate`.
    """
    place = math.ceil((len(good) + 1) * (1 - rate) - 1e-9)
    return good[place - 1] if place <= len(good) else max(good[-1], Tail(good).level(rate))


class Tail:
    """A generalised Pareto distribution, fitted to the excess of the largest `good` scores over the start of the tail.

    Scale and shape are estimated from probability-weighted moments (Hosking and Wallis 1987). The shape is limited to
    0 and above, so the tail has no end: a good picture may score higher than all good ones so far, which is improbable
    but not impossible.
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
        """Probability that a good picture scores above `score`, a score in the tail."""
        over = score - self.start
        if over <= 0 or self.scale <= 0:
            return self.share if over <= 0 else 0.0
        if self.shape < 1e-6:
            return self.share * math.exp(-over / self.scale)
        return self.share * (1 + self.shape * over / self.scale) ** (-1 / self.shape)

    def level(self, rate: float) -> float:
        """The score that a good picture exceeds with probability `rate`, which is at most `share`."""
        ratio = self.share / rate
        if self.shape < 1e-6:
            return float(self.start + self.scale * math.log(ratio))
        return float(self.start + self.scale / self.shape * (ratio**self.shape - 1))
