"""The training patches nearest to each row of a memory bank: rows move towards their mean, or are replaced by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csr_matrix

from deploy.command_line.progress import progress
from deploy.pictures.stream import cores

from ..distributed.group import Group
from ..threads import one_thread
from .coreset import principal_axes
from .search import coarse_form, patch_form

PATCHES = 64  # patches per row, on average, that are used where means are wanted
FEW = 8  # patches per row, on average, that are used where only replacements of rows are wanted
AXES = 46  # principal axes of the bank, over which nearest rows are searched; the products then have 48 terms
BLOCK = 64  # patches that a thread compares at a time


class Clusters:
    """For each row of a bank, the patches whose nearest row it is, searched over the bank's main axes.

    - `moved` gives the rows, moved by `share` of the way towards the mean of their patches (Lloyd 1982, "Least squares
      quantization in PCM"). Greedy k-center chooses patches at the edge of the data, and which ones depends on its
      first row; the mean depends on it much less. Means alone would blur rare patches.
    - `without` and `farthest_patches` estimate the bank that would have been chosen with some pictures held out. If a
      row came from these, greedy k-center would probably have chosen another patch in its place: of the patches that
      the row is nearest to and that come from other pictures, the farthest one.

    Where there are many patches per row, only every n-th picture is used.

    Args:
        bank: float32 [rows, channels], centred.
        owner: the group of pictures that gave each row. Pictures are held out in groups: picture i is in group
            i // together. Rows of the bank before an update have negative numbers.
        share: 0 (rows stay) to 1 (rows become the means).
        patches: returns, for a picture's number, the number of its first patch, and its patches, float32
            [patches, channels], centred like the bank; called by the constructor only.
        here: numbers of the pictures that this process has.
        pictures: number of all pictures.
        total: number of all pictures' patches.
        fixed: the first `fixed` rows are not moved. These are the rows of the bank before an update: if they were moved
            again in every update, they would become means.
        group: the processes among which the pictures are divided.
        together: how many pictures are held out together.
    """

    @one_thread  # of each product: the blocks of patches are divided among threads
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
        together: int = 1,
    ) -> None:
        group = group or Group()
        self._bank, self._share, self._fixed = bank, share, fixed
        self._nearest: dict[int, np.ndarray] = {}
        self._farthest, self._farthest_patch = np.full(len(bank), -1, np.float32), np.zeros(len(bank), np.int64)
        axes = principal_axes(bank)[1][:, :AXES]
        form, pool = coarse_form(bank, axes).T.copy(), ThreadPoolExecutor(cores())
        some = range(0, pictures, max(1, total // ((PATCHES if share else FEW) * len(bank))))
        looked_at = [picture for picture in some if picture in here]
        sums = np.zeros((len(bank), bank.shape[1] + 1 if share else 0), np.float32)
        for picture in progress(looked_at, len(looked_at), "clusters", delay=1):
            first, own = patches(picture)
            found = patch_form(own, axes)
            blocks = [found[start : start + BLOCK] for start in range(0, len(own), BLOCK)]
            nearest = np.concatenate(list(pool.map(lambda block: (block @ form).argmax(axis=1), blocks)))
            self._note_farthest(nearest, own, first, owner[nearest] != picture // together)
            if share:
                self._nearest[picture] = nearest.astype(np.int32)
                if group.rank == 0:  # later ranks add to its sums below, in the order of one process
                    self._add(sums, picture, own)
        pool.shutdown()
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
        """Add a picture to `sums`: the sum of each row's patches, and in the last column how many they are."""
        rows, total, count = self._sums(self._nearest[picture], patches)
        sums[rows, :-1] += total
        sums[rows, -1] += count

    def _agree_on_farthest(self, group: Group) -> None:
        """Take each row's farthest patch over all processes; the lowest rank's if equally far, as in one process."""
        if group.size == 1:
            return
        found = list(zip(group.gather(self._farthest), group.gather(self._farthest_patch)))
        self._farthest, self._farthest_patch = found[0]
        for farthest, patch in found[1:]:
            better = farthest > self._farthest
            self._farthest = np.where(better, farthest, self._farthest)
            self._farthest_patch = np.where(better, patch, self._farthest_patch)

    def _note_farthest(self, nearest: np.ndarray, own: np.ndarray, first: int, other: np.ndarray) -> None:
        """Update each row's farthest patch with a picture's patches `own`, of which only those in `other` count.

        Args:
            nearest: the nearest row of each patch.
            own: the patches, float32 [patches, channels].
            first: number of the first patch.
            other: bool [patches], whether the nearest row came from another picture.
        """
        offset = own - self._bank[nearest]
        distance = np.einsum("ij,ij->i", offset, offset)
        patch = np.flatnonzero(other & (distance > self._farthest[nearest]))
        patch = patch[np.argsort(distance[patch], kind="stable")]  # ascending: a row's last assignment, the farthest
        self._farthest[nearest[patch]], self._farthest_patch[nearest[patch]] = distance[patch], first + patch

    def farthest_patches(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that are nearest to patches of other pictures than their own, and the farthest such patch of each.

        Returns:
            int64 [n] row numbers, ascending, and int64 [n] numbers of patches.
        """
        rows = np.flatnonzero(self._farthest >= 0)
        return rows, self._farthest_patch[rows]

    def moved(self) -> np.ndarray:
        """The bank with its rows moved by `share` towards the means, float32 [rows, channels]."""
        return self._bank if not self._share else self._moved(self._bank, self._total, self._count)

    def without(self, pictures: range, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows that would have moved differently with pictures held out, and their values then.

        Args:
            pictures: the pictures' numbers.
            patches: the patches of all of them, centred; each picture has equally many.

        Returns:
            int64 [n] row numbers and float32 [n, channels] values; n is 0 if the pictures did not move any row.
        """
        moving = [place for place, picture in enumerate(pictures) if picture in self._nearest]
        if not moving:
            return np.zeros(0, np.int64), self._bank[:0]
        by_picture = patches.reshape(len(pictures), -1, patches.shape[1])
        nearest = np.concatenate([self._nearest[pictures[place]] for place in moving])
        rows, total, count = self._sums(nearest, by_picture[moving].reshape(-1, patches.shape[1]))
        return rows, self._moved(self._bank[rows], self._total[rows] - total, self._count[rows] - count)

    def _sums(self, nearest: np.ndarray, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that are nearest to some patches, each row's sum of these patches, and how many they are.

        Fixed rows are left out. `nearest` has the nearest row of each patch.
        """
        order = np.argsort(nearest, kind="stable")
        rows, start, count = np.unique(nearest[order], return_index=True, return_counts=True)
        # a sparse product with ones adds rows twenty times as fast as np.add.reduceat
        ones, ends = np.ones(len(order), np.float32), np.append(start, len(order))
        total = csr_matrix((ones, order, ends), (len(rows), len(order))) @ patches
        free = rows >= self._fixed
        return rows[free].astype(np.int64), total[free], count[free].astype(np.float32)

    def _moved(self, bank: np.ndarray, total: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Rows of the bank, moved towards total / count; rows with no patches stay."""
        share = np.where(count > 0.5, self._share, 0).astype(np.float32)[:, None]
        return (1 - share) * bank + share * total / np.maximum(count, 1)[:, None]
