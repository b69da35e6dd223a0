"""The nearest row of a memory bank for every patch: by all distances, or coarse to fine with the worst patches exact.

|q - b|^2 is smallest where q b - |b|^2 / 2, the nearness, is largest, so one matrix product finds the nearest row. At a
10 % bank that product costs several times the backbone, and writing its [patches, rows] result as much again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import paddle
from paddle import nn

from deploy.command_line.progress import progress

from ..graph.scores import columns
from .coreset import principal_axes

AXES = 46  # principal axes of the coarse stage; with residual norm and half norm its products have 48 terms
GROUP = 8  # rows of the bank whose mean the first step looks at
NEAR = 12  # groups around the best one whose rows the second step looks at
FINE = 4  # of these rows, how many are compared exactly
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

    1. Rows of the bank lie in groups of GROUP near ones. The group whose mean has the best coarse nearness is found:
       nearness on the AXES main axes of the bank, plus the product of what is left of both vectors' lengths. By Cauchy
       and Schwarz that is never below a row's true nearness, and close to it where the axes carry most.
    2. Of the rows in that group and the NEAR nearest to it, the FINE ones of best coarse nearness are compared exactly.
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
            "coarse_centres": paddle.zeros([0, self.axes + 2]),
            "coarse_bank": paddle.zeros([0, GROUP * (self.axes + 2)]),
            "coarse_groups": paddle.zeros([0, GROUP], "int64"),
            "coarse_near": paddle.zeros([0, NEAR], "int64"),
            "coarse_axes": paddle.zeros([self.channels, self.axes]),
        }

    def __call__(
        self,
        query: paddle.Tensor,
        bank: paddle.Tensor,
        half_norms: paddle.Tensor,
        centres: paddle.Tensor,
        coarse_bank: paddle.Tensor,
        groups: paddle.Tensor,
        near: paddle.Tensor,
        axes: paddle.Tensor,
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """query [pictures * positions, channels] to nearest rows, int64, and distances, both [pictures * positions]."""
        coarse = self._coarse(query, axes)
        group = paddle.argmax(paddle.matmul(coarse, centres, transpose_y=True), axis=1)
        around = paddle.index_select(near, group).reshape([-1])
        candidates = paddle.index_select(coarse_bank, around).reshape([-1, NEAR * GROUP, self.axes + 2])
        fine = paddle.topk((candidates * coarse.unsqueeze(1)).sum(axis=2), FINE, axis=1, sorted=False)[1]
        first = fine + NEAR * GROUP * _count(group).unsqueeze(1)
        rows = paddle.index_select(paddle.index_select(groups, around).reshape([-1]), first.reshape([-1]))
        nearest, distance = self._best_row(query, bank, rows)
        worst = self._worst(distance)
        of_worst = paddle.index_select(query, worst)
        exact = exact_nearest(of_worst, bank, half_norms)
        nearest = paddle.scatter(nearest, worst, exact)
        return nearest, paddle.scatter(distance, worst, distance_to(of_worst, bank, exact))

    def _coarse(self, query: paddle.Tensor, axes: paddle.Tensor) -> paddle.Tensor:
        """What the coarse bank's rows are multiplied with: [n, axes + 2]."""
        main = paddle.matmul(query, axes)
        left = (query * query).sum(axis=1, keepdim=True) - (main * main).sum(axis=1, keepdim=True)
        left = paddle.sqrt(nn.functional.relu(left))
        return paddle.concat([main, left, paddle.ones_like(left)], 1)

    def _best_row(
        self, query: paddle.Tensor, bank: paddle.Tensor, rows: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Of each patch's FINE rows, in turn in `rows`, the nearest, int64 [n], and the distance to it, [n]."""
        offset = paddle.index_select(bank, rows).reshape([-1, FINE, self.channels]) - query.unsqueeze(1)
        squared = (offset * offset).sum(axis=2)
        best = paddle.argmin(squared, axis=1)
        return paddle.index_select(rows, best + FINE * _count(best)), paddle.sqrt(squared.min(axis=1))

    def _worst(self, distance: paddle.Tensor) -> paddle.Tensor:
        """Numbers of the WORST largest of each picture's distances: int64 [pictures * WORST]."""
        count = min(WORST, self.positions)
        worst = paddle.topk(distance.reshape([-1, self.positions]), count, axis=1, sorted=False)[1]
        picture = _count(columns(worst, 0, 1))
        return (worst + self.positions * picture).reshape([-1])


def _count(rows: paddle.Tensor) -> paddle.Tensor:
    """0, 1, 2, ... as many as there are `rows`, in its shape; a program does not know the number beforehand."""
    return paddle.cumsum(paddle.ones_like(rows), axis=0) - 1


def coarse_tables(bank: np.ndarray, half_norms: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics that `CoarseSearch` wants for a centred bank, float32 [rows, channels], by name.

    coarse_centres float32 [groups, axes + 2], the means of the groups' rows; coarse_bank float32
    [groups, GROUP * (axes + 2)]; coarse_groups int64 [groups, GROUP], rows of the bank, some twice; coarse_near int64
    [groups, NEAR], each group itself and the nearest others, repeated where there are fewer; coarse_axes float32
    [channels, axes].
    """
    axes = np.ascontiguousarray(principal_axes(bank)[1][:, :AXES])
    # in parts, of which BLAS makes copies
    main = np.concatenate([bank[start : start + 4096] @ axes for start in range(0, len(bank), 4096)])
    left = np.sqrt(np.maximum(2 * half_norms - (main**2).sum(axis=1), 0))
    coarse = np.concatenate([main, left[:, None], -half_norms[:, None]], 1)
    groups = _groups(main)
    return {
        **_tables(coarse[groups]),
        "coarse_groups": groups,
        "coarse_near": _near(sum(bank[groups[:, place]] for place in range(GROUP)) / GROUP),
        "coarse_axes": axes,
    }


def replace_rows(tables: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The tables that change when row i of the bank becomes what row `rows[i]` is."""
    groups, coarse_bank = tables["coarse_groups"], tables["coarse_bank"]
    place_of = np.empty(len(rows), np.int64)
    place_of[groups.ravel()] = np.arange(groups.size)
    coarse = coarse_bank.reshape(groups.size, -1)[place_of[rows[groups.ravel()]]]
    return _tables(coarse.reshape(*groups.shape, -1))


def _tables(coarse: np.ndarray) -> dict[str, np.ndarray]:
    """Of coarse rows by group, [groups, GROUP, axes + 2]."""
    return {"coarse_centres": coarse.mean(axis=1), "coarse_bank": coarse.reshape(len(coarse), -1)}


def _near(centres: np.ndarray) -> np.ndarray:
    """int64 [groups, NEAR] for the groups' centres [groups, channels]."""
    norms, wanted = (centres**2).sum(axis=1) / 2, min(NEAR, len(centres))
    near = np.empty((len(centres), wanted), np.int64)
    for start in progress(range(0, len(centres), 128), -(-len(centres) // 128), "near groups", "block", delay=1):
        farness = norms - centres[start : start + 128] @ centres.T
        some = np.argpartition(farness, wanted - 1, axis=1)[:, :wanted]
        order = np.argsort(np.take_along_axis(farness, some, 1), axis=1, kind="stable")
        near[start : start + 128] = np.take_along_axis(some, order, 1)
    return near[:, np.arange(NEAR) % wanted]


def _groups(points: np.ndarray) -> np.ndarray:
    """Near points together: int64 [groups, GROUP], short ones filled up."""
    return np.stack(list(progress(_halved(points), -(-len(points) // GROUP), "groups", "group", delay=1)))


def _halved(points: np.ndarray) -> Iterator[np.ndarray]:
    """Halve along the longest direction, again and again; yield int64 [GROUP], near points, for every group."""
    waiting = [(np.arange(len(points)), -(-len(points) // GROUP))]
    while waiting:
        members, count = waiting.pop()
        if count == 1:
            yield np.resize(members, GROUP)
            continue
        offset = points[members] - points[members].mean(axis=0)
        direction = offset[(offset**2).sum(axis=1).argmax()]
        for _ in range(3):  # power iteration: good enough to halve by
            direction = offset.T @ (offset @ direction)
            direction /= max(np.linalg.norm(direction), np.finfo(np.float32).tiny)
        middle = len(members) * (count // 2) // count
        order = members[np.argsort(offset @ direction, kind="stable")]
        waiting += [(order[middle:], count - count // 2), (order[:middle], count // 2)]
