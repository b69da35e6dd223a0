"""Which patches a memory bank keeps: greedy k-center (Roth 2021, algorithm 1) on a random projection, and others."""

from __future__ import annotations

import math

import numpy as np
import paddle

from deploy.command_line.progress import progress
from deploy.runtime.program import release_memory

from ..threads import one_thread

PROJECTED = 128  # dimensions of the random projection, as in the authors' code
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
    ) -> None:
        self.sampler, self.k, self.gpu = sampler, k, gpu
        self.random = np.random.default_rng(seed)
        self.seen, self._share = 0, self.wanted(rows) / rows
        self.blocks = -(-rows // block) if sampler.endswith("greedy") else 0
        if self.blocks:
            self._matrix = projection(channels, self.random)
            self._turn: tuple[np.ndarray, np.ndarray] | None = None
            self._bank = None if bank is None else self._projected(bank)
            self._held = np.zeros((-(-rows // self.blocks), -(-self._matrix.shape[1] // ALIGNED) * ALIGNED), np.float32)
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
        """int64 [chosen] row numbers; fewer than wanted when all other rows are exact copies of chosen ones."""
        count = self.wanted(self.seen)
        if self.sampler == "identity":
            return np.arange(self.seen)
        if self.sampler == "random":
            return np.sort(self.random.choice(self.seen, count, replace=False))
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
        points = self._held[: self._filled]
        if self._turn is None:
            self._turn = principal_axes(points)
            if self._bank is not None:
                self._bank = (self._bank - self._turn[0]) @ self._turn[1]
        mean, axes = self._turn
        for start in range(0, len(points), 4096):
            points[start : start + 4096] = (points[start : start + 4096] - mean) @ axes
        return points

    def _coreset(self, points: np.ndarray, count: int) -> np.ndarray:
        """`count` rows of the projected points, by the sampler."""
        squared = None
        if self._bank is not None:
            squared = squared_to(points, self._bank)
        elif self.sampler == "approx_greedy":
            squared = (
                mean_distance(points, self.random.choice(len(points), min(STARTS, len(points)), replace=False)) ** 2
            )
        first = int(self.random.integers(len(points))) if squared is None else int(squared.argmax())
        release_memory()  # of the feature program
        if self.gpu:
            return k_center_on_gpu(points, count, first, squared)
        from .kcenter import iterate_centres  # here, as only fitting needs numba, which takes a while to import

        centres = progress(iterate_centres(points, count, first, squared), count, "coreset", unit="centre", delay=1)
        chosen = np.fromiter(centres, np.int64)
        release_memory()
        return chosen


def projection(channels: int, random: np.random.Generator) -> np.ndarray:
    """A Gaussian random projection (Johnson-Lindenstrauss), float32 [channels, PROJECTED]; the identity below that."""
    if channels <= PROJECTED:
        return np.eye(channels, dtype=np.float32)
    return random.standard_normal((channels, PROJECTED)).astype(np.float32) / np.float32(math.sqrt(PROJECTED))


@one_thread
def principal_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [dimensions] and principal axes [dimensions, dimensions] of float32 points, those of most variance first.

    Turning leaves all distances as they are; it puts most of a distance into the first dimensions, over which
    `k_center` takes its bounds.
    """
    mean = points.mean(axis=0, dtype=np.float64).astype(np.float32)
    scatter = np.zeros((len(mean), len(mean)))
    for start in range(0, len(points), 4096):
        centred = points[start : start + 4096] - mean
        scatter += centred.T @ centred
    return mean, np.ascontiguousarray(np.linalg.eigh(scatter)[1][:, ::-1].astype(np.float32))


def mean_distance(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The mean distance of each of float32 [rows, dimensions] to the rows `starts`: float64 [rows]."""
    total = np.zeros(len(points))
    for begin in range(0, len(points), 4096):
        some = points[begin : begin + 4096]
        for start in starts:
            total[begin : begin + 4096] += np.linalg.norm(some - points[start], axis=1)
    return total / len(starts)


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
