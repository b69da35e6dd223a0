"""The patches that each row of a memory bank stands for: what it moves towards, and what stands in for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploy.command_line.progress import progress

from ..distributed.group import Group
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
    - `without`, `farthest_patches`: what the bank would be, nearly, had it been chosen without a picture. Of another
      picture's patches that a row stands for, the farthest is what greedy k-center would turn to without that row.

    Where there are many patches for each row, those of every so-many-th picture are looked at.

    Args:
        bank: float32 [rows, channels], centred.
        owner: the number of the picture that gave each row.
        share: 0 (rows stay) to 1 (rows become the means).
        patches: called here, gives the number of a picture's first patch, and its patches, float32 [patches, channels],
            centred like the bank.
        here: the pictures that this process has.
        pictures: their number.
        total: all pictures' patches.
        fixed: so many rows, the first, stay where they are: moved again and again, they would become means.
        group: the processes that have the pictures.
    """

    def __init__(
        self,
        bank: np.ndarray,
        owner: np.ndarray,
        share: float,
        patches: Callable[[int], tuple[int, np.ndarray]],
        here: range,
        pictures: int,
        total: int,
        fixed: int = 0,
        group: Group | None = None,
    ) -> None:
        group = group or Group()
        self._bank, self._share, self._fixed = bank, share, fixed
        self._nearest: dict[int, np.ndarray] = {}
        self._farthest, self._farthest_patch = np.full(len(bank), -1, np.float32), np.zeros(len(bank), np.int64)
        axes = principal_axes(bank)[1][:, :AXES]
        form = coarse_form(bank, axes).T.copy()
        some = range(0, pictures, max(1, total // ((PATCHES if share else FEW) * len(bank))))
        looked_at = [picture for picture in some if picture in here]
        sums = np.zeros((len(bank), bank.shape[1] + 1 if share else 0), np.float32)
        for picture in progress(looked_at, len(looked_at), "clusters", delay=1):
            first, own = patches(picture)
            found = patch_form(own, axes)
            nearest = np.concatenate([(found[i : i + BLOCK] @ form).argmax(axis=1) for i in range(0, len(own), BLOCK)])
            self._note_farthest(nearest, own, first, owner[nearest] != picture)
            if share:
                self._nearest[picture] = nearest.astype(np.int32)
                if group.rank == 0:  # the others come after it
                    self._add(sums, picture, own)
        self._agree_on_farthest(group)

        def with_own(sums: np.ndarray) -> np.ndarray:
            if group.rank > 0:
                for picture in looked_at:
                    self._add(sums, picture, patches(picture)[1])
            return sums

        if share:
            sums = group.chained(sums, with_own)
        self._total, self._count = sums[:, :-1], sums[:, -1:].reshape(-1)

    def _add(self, sums: np.ndarray, picture: int, patches: np.ndarray) -> None:
        """Add what `_sums` gives of the picture: sums of patches, and in the last column their numbers."""
        rows, total, count = self._sums(picture, patches)
        sums[rows, :-1] += total
        sums[rows, -1] += count

    def _agree_on_farthest(self, group: Group) -> None:
        """Take the farthest patch that any process found; of equal ones the first, as one process alone does."""
        if group.size == 1:
            return
        found = list(zip(group.gather(self._farthest), group.gather(self._farthest_patch)))
        self._farthest, self._farthest_patch = found[0]
        for farthest, patch in found[1:]:
            better = farthest > self._farthest
            self._farthest = np.where(better, farthest, self._farthest)
            self._farthest_patch = np.where(better, patch, self._farthest_patch)

    def _note_farthest(self, nearest: np.ndarray, own: np.ndarray, first: int, other: np.ndarray) -> None:
        """Keep the patch of each row that is farthest from it, of those marked in `other`."""
        offset = own - self._bank[nearest]
        distance = np.einsum("ij,ij->i", offset, offset)
        patch = np.flatnonzero(other & (distance > self._farthest[nearest]))
        patch = patch[np.argsort(distance[patch], kind="stable")]  # the last one of a row stays
        self._farthest[nearest[patch]], self._farthest_patch[nearest[patch]] = distance[patch], first + patch

    def farthest_patches(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that stand for patches of another picture, ascending, and the number of the farthest one of each."""
        rows = np.flatnonzero(self._farthest >= 0)
        return rows, self._farthest_patch[rows]

    def moved(self) -> np.ndarray:
        """The moved rows, float32 [rows, channels]."""
        return self._bank if not self._share else self._moved(self._bank, self._total, self._count)

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
