"""The nearest row of a memory bank for every patch: by all distances, or coarse to fine with the worst patches exact.

|q - b|^2 is smallest where q b - |b|^2 / 2, the nearness, is largest, so one matrix product finds the nearest row. At a
10 % bank that product costs several times the backbone, and writing its [patches, rows] result as much again.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from .scores import columns

AXES = 46  # principal axes of the coarse stage; with residual norm and half norm its products have 48 terms
GROUP = 8  # rows of the bank that the coarse stage tells apart only by their best
WORST = 32  # patches per picture that are searched exactly


def exact_nearest(query: paddle.Tensor, bank: paddle.Tensor, half_norms: paddle.Tensor) -> paddle.Tensor:
    """The nearest row of bank [rows, channels] for each of query [n, channels]: int64 [n]."""
    return paddle.argmax(paddle.matmul(query, bank, transpose_y=True) - half_norms, axis=1)


def distance_to(query: paddle.Tensor, bank: paddle.Tensor, nearest: paddle.Tensor) -> paddle.Tensor:
    """Euclidean distances [n] to the given rows, taken directly: the product cancels badly for near ones."""
    offset = query - paddle.index_select(bank, nearest)
    return paddle.sqrt((offset * offset).sum(axis=1))


class CoarseSearch:
    """Coarse to fine: distances are those to a real row of the bank, so never too small, and the largest are exact.

    1. Coarse: nearness on the AXES main axes of the bank, plus the product of what is left of both vectors' lengths.
       By Cauchy and Schwarz that is never below the true nearness, and close to it where the axes carry most.
    2. Rows of the bank lie in groups of GROUP near ones. Of the group with the best coarse nearness all rows are
       compared exactly.
    3. The WORST patches of each picture are compared with the whole bank.

    Every distance before step 3 is an upper bound, so the picture's largest distance is exact whenever the largest
    after step 3 is no smaller than the largest that step 3 left alone.
    """

    def __init__(self, channels: int, positions: int) -> None:
        """For patches of `channels` values, `positions` of them per picture."""
        self.channels, self.axes, self.positions = channels, min(AXES, channels), positions

    def statistics(self) -> dict[str, paddle.Tensor]:
        """What `coarse_tables` gives, before there is a bank."""
        return {
            "coarse_bank": paddle.zeros([0, self.axes + 2]),
            "coarse_groups": paddle.zeros([0, GROUP], "int64"),
            "coarse_axes": paddle.zeros([self.channels, self.axes]),
        }

    def __call__(
        self,
        query: paddle.Tensor,
        bank: paddle.Tensor,
        half_norms: paddle.Tensor,
        coarse_bank: paddle.Tensor,
        coarse_groups: paddle.Tensor,
        coarse_axes: paddle.Tensor,
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """query [pictures * positions, channels] to nearest rows, int64, and distances, both [pictures * positions]."""
        group = self._best_group(query, coarse_bank, coarse_axes)
        nearest, distance = self._best_row(query, bank, paddle.index_select(coarse_groups, group))
        worst = self._worst(distance)
        of_worst = paddle.index_select(query, worst)
        exact = exact_nearest(of_worst, bank, half_norms)
        nearest = paddle.scatter(nearest, worst, exact)
        return nearest, paddle.scatter(distance, worst, distance_to(of_worst, bank, exact))

    def _best_group(
        self, query: paddle.Tensor, coarse_bank: paddle.Tensor, coarse_axes: paddle.Tensor
    ) -> paddle.Tensor:
        """Number of the group with the best coarse nearness: int64 [n]."""
        main = paddle.matmul(query, coarse_axes)
        left = (query * query).sum(axis=1, keepdim=True) - (main * main).sum(axis=1, keepdim=True)
        left = paddle.sqrt(nn.functional.relu(left))
        coarse = paddle.concat([main, left, paddle.ones_like(left)], 1)
        # one member of every group at a time: the products stay in the cache, and the maximum is cheap there
        parts = paddle.split(coarse_bank, GROUP, axis=0)
        best = paddle.matmul(coarse, parts[0], transpose_y=True)
        for part in parts[1:]:
            best = paddle.maximum(best, paddle.matmul(coarse, part, transpose_y=True))
        return paddle.argmax(best, axis=1)

    def _best_row(
        self, query: paddle.Tensor, bank: paddle.Tensor, rows: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Of each patch's rows [n, GROUP] the nearest, int64 [n], and the distance to it, [n]."""
        flat = rows.reshape([-1])
        offset = paddle.index_select(bank, flat).reshape([-1, GROUP, self.channels]) - query.unsqueeze(1)
        squared = (offset * offset).sum(axis=2)
        best = paddle.argmin(squared, axis=1)
        nearest = paddle.index_select(flat, best + GROUP * (paddle.cumsum(paddle.ones_like(best)) - 1))
        return nearest, paddle.sqrt(squared.min(axis=1))

    def _worst(self, distance: paddle.Tensor) -> paddle.Tensor:
        """Numbers of the WORST largest of each picture's distances: int64 [pictures * WORST]."""
        count = min(WORST, self.positions)
        worst = paddle.topk(distance.reshape([-1, self.positions]), count, axis=1, sorted=False)[1]
        first = columns(worst, 0, 1) * 0 + 1
        return (worst + self.positions * (paddle.cumsum(first, axis=0) - 1)).reshape([-1])


def coarse_tables(bank: np.ndarray, half_norms: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics that `CoarseSearch` wants for a centred bank, float32 [rows, channels], by name.

    coarse_bank float32 [GROUP * groups, axes + 2], the first members of all groups, then the second ones, ...;
    coarse_groups int64 [groups, GROUP], rows of the bank, some twice; coarse_axes float32 [channels, axes].
    """
    _, axes = np.linalg.eigh((bank.T @ bank).astype(np.float64))
    axes = np.ascontiguousarray(axes[:, ::-1][:, :AXES].astype(np.float32))
    main = bank @ axes
    left = np.sqrt(np.maximum(2 * half_norms - (main**2).sum(axis=1), 0))
    coarse = np.concatenate([main, left[:, None], -half_norms[:, None]], 1)
    groups = _groups(main)
    return {"coarse_bank": coarse[groups.T.ravel()], "coarse_groups": groups, "coarse_axes": axes}


def replaced(coarse_bank: np.ndarray, coarse_groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The coarse bank when row i of the bank became what row `rows[i]` was."""
    row_at = coarse_groups.T.ravel()
    place_of = np.empty(len(rows), np.int64)
    place_of[row_at] = np.arange(len(row_at))
    return coarse_bank[place_of[rows[row_at]]]


def _groups(points: np.ndarray) -> np.ndarray:
    """Near points together, by halving along the longest direction: int64 [groups, GROUP], short ones filled up."""
    filled = []
    waiting = [(np.arange(len(points)), -(-len(points) // GROUP))]
    while waiting:
        members, count = waiting.pop()
        if count == 1:
            filled.append(np.resize(members, GROUP))
            continue
        offset = points[members] - points[members].mean(axis=0)
        direction = offset[(offset**2).sum(axis=1).argmax()]
        for _ in range(3):  # power iteration: good enough to halve by
            direction = offset.T @ (offset @ direction)
            direction /= max(np.linalg.norm(direction), np.finfo(np.float32).tiny)
        middle = len(members) * (count // 2) // count
        order = members[np.argsort(offset @ direction, kind="stable")]
        waiting += [(order[middle:], count - count // 2), (order[:middle], count // 2)]
    return np.stack(filled)
