"""Standard deviations of the channels over all training patches, picture by picture."""

from __future__ import annotations

import numpy as np

from ..distributed.group import Group

LEAST = 1e-3  # of the mean deviation: a channel that hardly varies must not count without limit


class Deviation:
    """Collects each picture's mean and variance by channel; joined in the order of pictures, in one process or several.

    Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance".
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._moments: list[np.ndarray] = []

    def add(self, patches: np.ndarray) -> None:
        """Add the patches of one picture, float32 [patches, channels]; all pictures must have equally many."""
        mean = patches.mean(axis=0)
        offset = patches - mean
        self._moments.append(np.stack([mean, np.einsum("ij,ij->j", offset, offset) / len(patches)]))

    def total(self, group: Group) -> np.ndarray:
        """Return the deviation of each channel over the patches of all processes, float32 [channels], above 0."""
        moments = group.concatenated(np.array(self._moments, np.float32).reshape(-1, 2, self._channels)).astype(
            np.float64
        )
        deviation = np.sqrt(moments[:, 1].mean(axis=0) + moments[:, 0].var(axis=0))
        return (deviation + max(LEAST * deviation.mean(), np.finfo(np.float32).tiny)).astype(np.float32)
