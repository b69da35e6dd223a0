"""Rows of a memory bank moved towards the patches that they stand for: a part of one step of Lloyd's algorithm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploy.command_line.progress import progress

from ..distributed.group import Group
from .coreset import principal_axes
from .search import coarse_form, patch_form

PATCHES = 64  # per row, on average, that means are taken over at most
AXES = 46  # of the bank, over which nearest rows are found; its products then have 48 terms
BLOCK = 128  # patches compared at a time


class LloydStep:
    """Moves the rows of a bank, and says what they would be without a picture.

    Greedy k-center chooses patches at the edge of what there is, and which ones depends on where it starts. The mean of
    the patches that are nearest to a row (Lloyd 1982, "Least squares quantization in PCM") depends on it much less; but
    means alone blur what is rare, so rows go a `share` of the way. Nearest rows are found over the bank's main axes.
    For small banks the patches are those of every so-many-th picture.

    Args:
        bank: float32 [rows, channels], centred.
        share: 0 (rows stay) to 1 (rows become the means).
        patches: called here, gives a picture's patches, float32 [patches, channels], centred like the bank.
        here: the pictures that this process has.
        pictures: their number.
        total: all pictures' patches.
        fixed: so many rows, the first, stay where they are: moved again and again, they would become means.
        group: the processes that have the pictures.
    """

    def __init__(
        self,
        bank: np.ndarray,
        share: float,
        patches: Callable[[int], np.ndarray],
        here: range,
        pictures: int,
        total: int,
        fixed: int = 0,
        group: Group | None = None,
    ) -> None:
        group = group or Group()
        self._bank, self._share, self._fixed = bank, share, fixed
        sums = np.zeros((len(bank), bank.shape[1] + 1), np.float32)
        self._nearest: dict[int, np.ndarray] = {}
        axes = principal_axes(bank)[1][:, :AXES]
        form = coarse_form(bank, axes).T.copy()
        some = range(0, pictures, max(1, total // (PATCHES * len(bank))))
        looked_at = [picture for picture in some if picture in here]
        for picture in progress(looked_at, len(looked_at), "means of patches", delay=1):
            own = patches(picture)
            found = patch_form(own, axes)
            nearest = [(found[i : i + BLOCK] @ form).argmax(axis=1) for i in range(0, len(own), BLOCK)]
            self._nearest[picture] = np.concatenate(nearest).astype(np.int32)
            if group.rank == 0:  # the others come after it
                self._add(sums, picture, own)

        def with_own(sums: np.ndarray) -> np.ndarray:
            if group.rank > 0:
                for picture in looked_at:
                    self._add(sums, picture, patches(picture))
            return sums

        sums = group.chained(sums, with_own)
        self._total, self._count = sums[:, :-1], sums[:, -1]

    def _add(self, sums: np.ndarray, picture: int, patches: np.ndarray) -> None:
        """Add what `_sums` gives of the picture: sums of patches, and in the last column their numbers."""
        rows, total, count = self._sums(picture, patches)
        sums[rows, :-1] += total
        sums[rows, -1] += count

    def bank(self) -> np.ndarray:
        """The moved rows, float32 [rows, channels]."""
        return self._moved(self._bank, self._total, self._count)

    def without(self, picture: int, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which rows are others without a training picture, int64 [n], and what they are, float32 [n, channels].

        `patches` are the picture's, centred.
        """
        if picture not in self._nearest:
            return np.zeros(0, np.int64), self._bank[:0]
        rows, total, count = self._sums(picture, patches)
        return rows, self._moved(self._bank[rows], self._total[rows] - total, self._count[rows] - count)

    def _sums(self, picture: int, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that are nearest to a picture's patches, the sums of these patches, and their numbers."""
        nearest = self._nearest[picture]
        order = np.argsort(nearest, kind="stable")
        rows, start, count = np.unique(nearest[order], return_index=True, return_counts=True)
        total, free = np.add.reduceat(patches[order], start), rows >= self._fixed
        return rows[free].astype(np.int64), total[free], count[free].astype(np.float32)

    def _moved(self, bank: np.ndarray, total: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Rows that no patch is nearest to stay."""
        share = np.where(count > 0.5, self._share, 0).astype(np.float32)[:, None]
        return (1 - share) * bank + share * total / np.maximum(count, 1)[:, None]
