"""Choice of the patches that a memory bank keeps: greedy k-center (Roth 2021, algorithm 1) and other samplers."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import paddle

from deploy.command_line.progress import progress
from deploy.errors import UserError
from deploy.runtime.program import release_memory

from ..distributed.group import Group
from ..threads import one_thread
from .shards import aligned, picked, starts

PROJECTED = 128  # dimensions of the random projection, as in the authors' code
BLOCK = 4096  # rows that are summed and rotated together
ALIGNED = 16  # the dimensions of projected rows are padded with zeros to a multiple of ALIGNED
STARTS = 10  # random rows that approximate greedy starts from, as in the authors' code
SAMPLERS = ("greedy", "approx_greedy", "random", "identity")


class Sampler:
    """Chooses rows from features that are given once, one part after the other, in bounded memory.

    - `greedy` is the paper's coreset, exact: each row is the one farthest from all rows chosen before.
    - `approx_greedy` is the authors' faster variant: it starts from the mean distance to STARTS random rows instead of
      the distance to a first centre.
    - `random` draws rows at random.
    - `identity` keeps all rows.

    The two greedy samplers keep a random projection of all rows in memory. More than `block` rows are divided into
    equal blocks. From each block, twice its share of rows is chosen; from these the final rows are chosen (merge and
    reduce). The result is then no longer exact, but memory grows only with the number of rows chosen.

    Args:
        sampler: one of SAMPLERS.
        channels: number of channels of the features.
        rows: largest number of rows that will be added.
        k: percentage of the rows to choose; above 100, their number.
        block: rows that are held in memory at a time, at least 1.
        seed: of the projection and of the first row.
        gpu: choose on the GPU.
        bank: float32 [rows, channels], rows that were chosen before; the greedy samplers choose in addition to them.
        group: the processes that choose together; each has its own rows, numbered in the order of ranks.
        here: largest number of rows that will be added in this process; `rows` if not given.

    Raises:
        UserError: several processes would have to choose in blocks.
    """

    def __init__(
        self,
        sampler: str,
        channels: int,
        rows: int,
        k: float,
        block: int,
        seed: int,
        gpu: bool = False,
        bank: np.ndarray | None = None,
        group: Group | None = None,
        here: int | None = None,
    ) -> None:
        self.group, here = group or Group(), rows if here is None else here
        self.sampler, self.k, self.gpu = sampler, k, gpu
        self.random = np.random.default_rng(seed)
        self.seen, self._share = 0, self.wanted(rows) / rows
        self.blocks = -(-rows // block) if sampler.endswith("greedy") else 0
        if self.blocks > 1 and self.group.size > 1:
            raise UserError(
                f"--coreset_block {block}: several processes choose from all {rows} patches at once, of which each "
                f"holds its own: give --coreset_block {rows}"
            )
        if self.blocks:
            self._matrix = projection(channels, self.random)
            self._turn: tuple[np.ndarray, np.ndarray] | None = None
            self._bank = None if bank is None else self._projected(bank)
            room = -(-rows // self.blocks) if self.group.size == 1 else here + BLOCK
            self._held = np.zeros((room, -(-self._matrix.shape[1] // ALIGNED) * ALIGNED), np.float32)
            self._filled = 0
            if self.blocks > 1:
                self._kept = np.empty(self.blocks * self._candidates(len(self._held)), np.int64)
                self._kept_points = np.empty((len(self._kept), self._held.shape[1]), np.float32)
                self._filled_kept = 0

    def wanted(self, rows: int) -> int:
        """How many of `rows` rows will be chosen."""
        return int(rows * self.k / 100) if self.k <= 100 else min(int(self.k), rows)

    def add(self, features: np.ndarray) -> None:
        """Add the next rows, float32 [rows, channels].

        The last bits of the projection may depend on how many rows are given at once: always give one picture's rows.
        """
        if not self.blocks:
            self.seen += len(features)
            return
        while len(features):
            taken, features = np.split(features, [len(self._held) - self._filled])
            self._held[self._filled : self._filled + len(taken)] = self._projected(taken)
            self._filled += len(taken)
            self.seen += len(taken)
            if self.blocks > 1 and self._filled == len(self._held):
                self._reduce()

    def _projected(self, features: np.ndarray) -> np.ndarray:
        """Project rows, float32 [rows, channels], and pad their dimensions with zeros to a multiple of ALIGNED."""
        found = np.zeros((len(features), -(-self._matrix.shape[1] // ALIGNED) * ALIGNED), np.float32)
        found[:, : self._matrix.shape[1]] = features @ self._matrix
        return found

    def choose(self) -> np.ndarray:
        """Choose among all rows added; return int64 [chosen] row numbers.

        They are fewer than wanted if all other rows are exact copies of chosen ones.
        """
        total = starts(self.seen, self.group)[-1]
        count = self.wanted(total)
        if self.sampler == "identity":
            return np.arange(total)
        if self.sampler == "random":
            return np.sort(self.random.choice(total, count, replace=False))
        if self.blocks == 1:
            return self._coreset(self._turned(), count)
        if self._filled:
            self._reduce()
        del self._held
        kept = self._kept[: self._filled_kept]
        return kept[self._coreset(self._kept_points[: len(kept)], min(count, len(kept)))]

    def _candidates(self, rows: int) -> int:
        """How many rows are chosen from a block of `rows` rows for the final choice: twice its share."""
        return min(math.ceil(2 * self._share * rows), rows)

    def _reduce(self) -> None:
        """Choose rows from the full block, keep them for the final choice, and drop the others."""
        points = self._turned()
        chosen = self._coreset(points, self._candidates(len(points)))
        here = slice(self._filled_kept, self._filled_kept + len(chosen))
        self._kept[here] = chosen + self.seen - len(points)
        np.take(points, chosen, axis=0, out=self._kept_points[here], mode="clip")  # "raise" would need a second copy
        self._filled, self._filled_kept = 0, here.stop

    def _turned(self) -> np.ndarray:
        """The rows held in memory, rotated in place to the principal axes of the first block."""
        points = aligned(self._held, self._filled, BLOCK, self.group)
        if self._turn is None:
            self._turn = principal_axes(points, self.group)
            if self._bank is not None:
                self._bank = (self._bank - self._turn[0]) @ self._turn[1]
        mean, axes = self._turn
        for start in range(0, len(points), BLOCK):
            points[start : start + BLOCK] = (points[start : start + BLOCK] - mean) @ axes
        return points

    def _coreset(self, points: np.ndarray, count: int) -> np.ndarray:
        """Choose `count` of the projected points with the greedy sampler; int64 [chosen] row numbers."""
        begin, squared = starts(len(points), self.group), None
        if self._bank is not None:
            squared = squared_to(points, self._bank)
        elif self.sampler == "approx_greedy":
            numbers = self.random.choice(begin[-1], min(STARTS, begin[-1]), replace=False)
            squared = mean_distance(points, picked(numbers, begin, lambda rows: points[rows], self.group)) ** 2
        if squared is None:
            first = int(self.random.integers(begin[-1]))
        else:
            first = int(self.group.concatenated(squared).argmax())
        release_memory()  # that of the feature program, which is not needed any more
        if self.gpu and self.group.size == 1:
            return k_center_on_gpu(points, count, first, squared)
        from .kcenter import iterate_centres  # imported late: only fitting needs numba, whose import is slow

        centres = iterate_centres(points, count, first, squared, group=self.group)
        chosen = np.fromiter(progress(centres, count, "coreset", unit="centre", delay=1), np.int64)
        release_memory()
        return chosen


def projection(channels: int, random: np.random.Generator) -> np.ndarray:
    """A Gaussian random projection (Johnson-Lindenstrauss), float32 [channels, PROJECTED].

    The identity, [channels, channels], if there are at most PROJECTED channels.
    """
    if channels <= PROJECTED:
        return np.eye(channels, dtype=np.float32)
    return random.standard_normal((channels, PROJECTED)).astype(np.float32) / np.float32(math.sqrt(PROJECTED))


@one_thread
def principal_axes(points: np.ndarray, group: Group | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean [dimensions] and principal axes [dimensions, dimensions] of float32 points; largest variance first.

    Rotating points to these axes does not change their distances. It moves most of a distance into the first
    dimensions, from which `k_center` computes lower bounds. Each process of `group` passes its own rows, which must
    begin at a multiple of BLOCK rows among all (see `aligned`).
    """
    group = group or Group()
    blocks = [points[start : start + BLOCK] for start in range(0, len(points), BLOCK)]
    total = group.chained(np.zeros(points.shape[1]), lambda so_far: reduce(_plus_rows, blocks, so_far))
    mean = (total / starts(len(points), group)[-1]).astype(np.float32)
    products = ((block - mean).T @ (block - mean) for block in blocks)
    if group.size > 1:
        products = list(products)  # computed now, while lower ranks are still adding theirs
    scatter = group.chained(np.zeros((len(mean), len(mean))), lambda so_far: sum(products, so_far))
    axes = np.linalg.eigh(scatter)[1][:, ::-1].astype(np.float32) if group.rank == 0 else np.empty(scatter.shape, "f4")
    return mean, group.broadcast(np.ascontiguousarray(axes))


def _plus_rows(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`total`, float64 [dimensions], plus the rows, float32 [n, dimensions], added one after the other."""
    return np.add.reduce(np.concatenate([total[None], rows]), axis=0)


def mean_distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean distance of each of `points`, float32 [rows, dimensions], to `others` [n, dimensions]: float64 [rows]."""
    total = np.zeros(len(points))
    for begin in range(0, len(points), 4096):
        some = points[begin : begin + 4096]
        for other in others:
            total[begin : begin + 4096] += np.linalg.norm(some - other, axis=1)
    return total / len(others)


def thinned(bank: np.ndarray, rows: int, seed: int, gpu: bool = False) -> np.ndarray:
    """Choose `rows` rows of a larger bank, float32 [n, channels], by greedy k-center; their numbers, ascending."""
    share = 100 * (rows + 0.5) / len(bank)  # plus a half, because the sampler rounds down
    sampler = Sampler("greedy", bank.shape[1], len(bank), share, len(bank), seed, gpu)
    sampler.add(bank)
    return np.sort(sampler.choose())


def squared_to(points: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Squared distance of each of `points`, float32 [n, dimensions], to the nearest row of `bank`: float64 [n]."""
    found, half = np.empty(len(points)), np.einsum("ij,ij->i", bank, bank) / 2
    for start in progress(range(0, len(points), 512), -(-len(points) // 512), "beside the bank", "block", delay=1):
        some = points[start : start + 512]
        products = some @ bank.T
        products -= half
        offset = (some - bank[products.argmax(axis=1)]).astype(np.float64)
        found[start : start + 512] = np.einsum("ij,ij->i", offset, offset)
    return found


def k_center_on_gpu(points: np.ndarray, count: int, first: int, squared: np.ndarray | None = None) -> np.ndarray:
    """The same choice as `k_center`, by brute force on Paddle's current device; arguments as there.

    It is tested on the CPU; its speed on a GPU was not measured.
    """
    if count == 0:  # an update by few pictures
        return np.zeros(0, np.int64)
    rows = paddle.to_tensor(points).astype("float64")
    known = np.full(len(points), np.inf) if squared is None else squared.astype(np.float64)
    nearest, point = paddle.to_tensor(known), paddle.to_tensor([first])
    chosen, distances = [], []
    for _ in range(min(count, len(points))):
        chosen.append(point)
        distance = ((rows - paddle.index_select(rows, point)) ** 2).sum(axis=1)
        nearest = paddle.minimum(nearest, distance)
        point = paddle.argmax(nearest).reshape([1])
        distances.append(paddle.index_select(nearest, point))
    copies = np.flatnonzero(paddle.concat(distances).numpy() <= 0)  # read once at the end: reading waits for the device
    return paddle.concat(chosen).numpy()[: copies[0] + 1 if len(copies) else None]
