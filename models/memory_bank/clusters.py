"""The patches that each row of a memory bank stands for: what it moves towards, and what stands in for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploy.command_line.progress import progress

from .coreset import principal_axes
from .search import coarse_form, patch_form

PATCHES = 64  # per row, on average, that means are taken over at most
FEW = 8  # the same where only stand-ins are wanted
AXES = 46  # of the bank, over which nearest rows are found; its products then have 48 terms
BLOCK = 128  # patches compared at a time


class Clusters:
    """Which patches are nearest to each row of a bank, found over the bank's main axes.

    - `moved`: the rows, a `share` of the way towards the mean of these patches (Lloyd 1982, "Least squares quantization
      in PCM"). Greedy k-center chooses patches at the edge of what there is, and which ones depends on where it starts;
      the mean depends on it much less. But means alone blur what is rare.
    - `without`, `stand_ins`: what the bank would be, nearly, had it been chosen without a picture. Of another picture's
      patches that a row stands for, the farthest is the one that greedy k-center would turn to without that row.

    Where there are many patches for each row, those of every so-many-th picture are looked at.

    Args:
        bank: float32 [rows, channels], centred.
        owner: the number of the picture that gave each row.
        share: 0 (rows stay) to 1 (rows become the means).
        patches: called here, gives the number of a picture's first patch, and its patches, float32 [patches, channels],
            centred like the bank.
        pictures: the numbers of the pictures.
        total: all pictures' patches.
        fixed: so many rows, the first, stay where they are: moved again and again, they would become means.
    """

    def __init__(
        self,
        bank: np.ndarray,
        owner: np.ndarray,
        share: float,
        patches: Callable[[int], tuple[int, np.ndarray]],
        pictures: range,
        total: int,
        fixed: int = 0,
    ) -> None:
        self._bank, self._share, self._fixed = bank, share, fixed
        self._total, self._count = np.zeros_like(bank) if share else None, np.zeros(len(bank), np.float32)
        self._nearest: dict[int, np.ndarray] = {}
        self._farthest, self._stand_in = np.full(len(bank), -1, np.float32), np.zeros(len(bank), np.int64)
        axes = principal_axes(bank)[1][:, :AXES]
        form = coarse_form(bank, axes).T.copy()
        looked_at = pictures[:: max(1, total // ((PATCHES if share else FEW) * len(bank)))]
        for picture in progress(looked_at, len(looked_at), "clusters", delay=1):
            first, own = patches(picture)
            found = patch_form(own, axes)
            nearest = np.concatenate([(found[i : i + BLOCK] @ form).argmax(axis=1) for i in range(0, len(own), BLOCK)])
            self._note_farthest(nearest, own, first, owner[nearest] != picture)
            if share:
                self._nearest[picture] = nearest.astype(np.int32)
                rows, sums, count = self._sums(picture, own)
                self._total[rows] += sums
                self._count[rows] += count

    def _note_farthest(self, nearest: np.ndarray, own: np.ndarray, first: int, other: np.ndarray) -> None:
        """Keep the patch of each row that is farthest from it, of those marked in `other`."""
        offset = own - self._bank[nearest]
        distance = np.einsum("ij,ij->i", offset, offset)
        patch = np.flatnonzero(other & (distance > self._farthest[nearest]))
        patch = patch[np.argsort(distance[patch], kind="stable")]  # the last one of a row stays
        self._farthest[nearest[patch]], self._stand_in[nearest[patch]] = distance[patch], first + patch

    def stand_ins(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that stand for patches of another picture, ascending, and the number of the farthest one of each."""
        rows = np.flatnonzero(self._farthest >= 0)
        return rows, self._stand_in[rows]

    def moved(self) -> np.ndarray:
        """The moved rows, float32 [rows, channels]."""
        return self._bank if self._total is None else self._moved(self._bank, self._total, self._count)

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
