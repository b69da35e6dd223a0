"""Which patches a memory bank keeps: greedy k-center (Roth 2021, algorithm 1) on a random projection, and others."""

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
BLOCK = 4096  # rows that are summed and turned together
ALIGNED = 16  # the projection's dimensions are a multiple of this
STARTS = 10  # of approximate greedy, as in the authors' code
SAMPLERS = ("greedy", "approx_greedy", "random", "identity")


class Sampler:
    """Chooses rows from features that pass by once, in bounded memory.

    `greedy` is the paper's coreset, exact: each row is the one farthest from all chosen before. `approx_greedy` is the
    authors' faster variant: it starts from the mean distance to STARTS random rows instead of from a first centre.
    `random` draws without looking, `identity` keeps all.

    The first two hold the rows' projection. Of more than `block` rows they take equal blocks, choose twice each one's
    share there, and choose from what was chosen in the end (merge and reduce): no longer exact, in memory that grows
    with the rows chosen only.

    Args:
        sampler: one of SAMPLERS.
        channels: of the features.
        rows: that will come, at most.
        k: percentage of the rows to choose; above 100, their number.
        block: rows that are held at a time, at least 2.
        seed: decides the projection and where choosing starts.
        gpu: choose on the GPU.
        bank: float32 [rows, channels], what was chosen from other rows before: the greedy ones go on from there.
        group: the processes that choose together; each holds its own rows, those of lower ranks come first.
        here: how many of the rows come to this process, at most; all if not given.

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
        """How many of so many rows are to be chosen."""
        return int(rows * self.k / 100) if self.k <= 100 else min(int(self.k), rows)

    def add(self, features: np.ndarray) -> None:
        """Look at the next rows, float32 [rows, channels].

        The projection's last bits may depend on how many rows come at once: give a picture's at a time.
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
        """Project rows, float32 [rows, channels], and fill up with zeros to a multiple of ALIGNED."""
        found = np.zeros((len(features), -(-self._matrix.shape[1] // ALIGNED) * ALIGNED), np.float32)
        found[:, : self._matrix.shape[1]] = features @ self._matrix
        return found

    def choose(self) -> np.ndarray:
        """int64 [chosen] row numbers among all; fewer than wanted when all others are exact copies of chosen ones."""
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
        """How many of a block of so many rows come into the last choice: twice its share."""
        return min(math.ceil(2 * self._share * rows), rows)

    def _reduce(self) -> None:
        """Keep some of the block that is held."""
        points = self._turned()
        chosen = self._coreset(points, self._candidates(len(points)))
        here = slice(self._filled_kept, self._filled_kept + len(chosen))
        self._kept[here] = chosen + self.seen - len(points)
        np.take(points, chosen, axis=0, out=self._kept_points[here], mode="clip")  # "raise" would hold them twice
        self._filled, self._filled_kept = 0, here.stop

    def _turned(self) -> np.ndarray:
        """What is held, turned in place to the principal axes of the first block."""
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
        """`count` rows of the projected points, by the sampler."""
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
        release_memory()  # of the feature program
        if self.gpu and self.group.size == 1:
            return k_center_on_gpu(points, count, first, squared)
        from .kcenter import iterate_centres  # here, as only fitting needs numba, which takes a while to import

        centres = iterate_centres(points, count, first, squared, group=self.group)
        chosen = np.fromiter(progress(centres, count, "coreset", unit="centre", delay=1), np.int64)
        release_memory()
        return chosen


def projection(channels: int, random: np.random.Generator) -> np.ndarray:
    """A Gaussian random projection (Johnson-Lindenstrauss), float32 [channels, PROJECTED]; the identity below that."""
    if channels <= PROJECTED:
        return np.eye(channels, dtype=np.float32)
    return random.standard_normal((channels, PROJECTED)).astype(np.float32) / np.float32(math.sqrt(PROJECTED))


@one_thread
def principal_axes(points: np.ndarray, group: Group | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean [dimensions] and principal axes [dimensions, dimensions] of float32 points, those of most variance first.

    Turning leaves all distances as they are; it puts most of a distance into the first dimensions, over which
    `k_center` takes its bounds. Of several processes each has some of the rows, in whole blocks.
    """
    group = group or Group()
    blocks = [points[start : start + BLOCK] for start in range(0, len(points), BLOCK)]
    total = group.chained(np.zeros(points.shape[1]), lambda so_far: reduce(_plus_rows, blocks, so_far))
    mean = (total / starts(len(points), group)[-1]).astype(np.float32)
    products = ((block - mean).T @ (block - mean) for block in blocks)
    if group.size > 1:
        products = list(products)  # while those of lower ranks are summed
    scatter = group.chained(np.zeros((len(mean), len(mean))), lambda so_far: sum(products, so_far))
    axes = np.linalg.eigh(scatter)[1][:, ::-1].astype(np.float32) if group.rank == 0 else np.empty(scatter.shape, "f4")
    return mean, group.broadcast(np.ascontiguousarray(axes))


def _plus_rows(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`total`, float64 [dimensions], plus rows, float32 [n, dimensions], one after the other."""
    return np.add.reduce(np.concatenate([total[None], rows]), axis=0)


def mean_distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean distance of each of float32 [rows, dimensions] to `others` [n, dimensions]: float64 [rows]."""
    total = np.zeros(len(points))
    for begin in range(0, len(points), 4096):
        some = points[begin : begin + 4096]
        for other in others:
            total[begin : begin + 4096] += np.linalg.norm(some - other, axis=1)
    return total / len(others)


def thinned(bank: np.ndarray, rows: int, seed: int, gpu: bool = False) -> np.ndarray:
    """Numbers of `rows` of the rows of a bank, float32 [more rows, channels], ascending: their greedy coreset."""
    share = 100 * (rows + 0.5) / len(bank)  # a half more, as what is wanted is rounded down
    sampler = Sampler("greedy", bank.shape[1], len(bank), share, len(bank), seed, gpu)
    sampler.add(bank)
    return np.sort(sampler.choose())


def squared_to(points: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """The squared distance, float64 [n], of float32 [n, dimensions] to the nearest of bank [rows, dimensions]."""
    found, half = np.empty(len(points)), np.einsum("ij,ij->i", bank, bank) / 2
    for start in progress(range(0, len(points), 512), -(-len(points) // 512), "beside the bank", "block", delay=1):
        some = points[start : start + 512]
        products = some @ bank.T
        products -= half
        offset = (some - bank[products.argmax(axis=1)]).astype(np.float64)
        found[start : start + 512] = np.einsum("ij,ij->i", offset, offset)
    return found


def k_center_on_gpu(points: np.ndarray, count: int, first: int, squared: np.ndarray | None = None) -> np.ndarray:
    """`k_center` by brute force, on Paddle's current device; tested on the CPU, not measured on a GPU."""
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
    copies = np.flatnonzero(paddle.concat(distances).numpy() <= 0)  # asked once, since asking waits for the device
    return paddle.concat(chosen).numpy()[: copies[0] + 1 if len(copies) else None]
