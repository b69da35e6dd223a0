"""Search for the nearest row of a memory bank: exact, or coarse to fine and exact for each picture's worst patches.

|q - b|^2 is smallest where the nearness q b - |b|^2 / 2 is largest, so one matrix product finds the nearest row b of
a patch q. With a 10 % bank this product takes several times as long as the backbone, and writing its [patches, rows]
result takes as long again.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from ..graph.scores import ImageScore, columns
from .coreset import principal_axes

FEW = 1000
"""Largest number of rows of a bank that is searched exactly by default. There it is faster; with 1,500 it depends on
the machine and on the pictures of a batch (docs/speed.md)."""
AXES = 78  # principal axes in the coarse stage; with the residual norm and the half norm, products have 80 terms
SEGMENT = 256
"""Rows in a segment of the bank. The coarse stage finds the best row of the best segments. To find the place of the
best row in a segment takes longer, per row, than to find which segments are best."""
LEAST = 32  # least number of segments
FINE = 3  # number of best segments, whose best rows are compared exactly
WORST, WORST_RELATIVE = 4, 16
"""How many times the share `score_top` of the patches is searched exactly. WORST_RELATIVE is used where a distance is
divided by the spacing of its nearest row, since the quotient can become larger when a nearer row is found, and where
distances are averaged with their neighbours, which then must be exact as well."""
LEAST_WORST = 32  # least number of patches searched exactly, which matters for small pictures
RESIDUAL = 0.8  # the product of two residuals is estimated as RESIDUAL times the product of their norms


def exact_nearest(query: paddle.Tensor, bank: paddle.Tensor, half_norms: paddle.Tensor) -> paddle.Tensor:
    """The number of the row of `bank` [rows, channels] that is nearest to each row of `query` [n, channels]: int64 [n].

    `half_norms` [rows] is half the squared length of each row of the bank.
    """
    return paddle.argmax(paddle.matmul(query, bank, transpose_y=True) - half_norms, axis=1)


def distance_to(query: paddle.Tensor, bank: paddle.Tensor, nearest: paddle.Tensor) -> paddle.Tensor:
    """Euclidean distances [n] from each row of `query` to the given row of the bank.

    They are computed from the difference, since the matrix product loses precision where the rows are near.
    """
    offset = query - paddle.index_select(bank, nearest)
    return paddle.sqrt((offset * offset).sum(axis=1))


def distances_to(query: paddle.Tensor, bank: paddle.Tensor, rows: paddle.Tensor) -> paddle.Tensor:
    """Distances [n, count] from each row of `query` [n, channels] to its own `rows` [n, count] of the bank."""
    chosen = paddle.index_select(bank, rows.reshape([-1])).reshape([-1, rows.shape[1], query.shape[1]])
    return paddle.sqrt(((query.unsqueeze(1) - chosen) ** 2).sum(axis=2))


def several_nearest(
    query: paddle.Tensor, bank: paddle.Tensor, half_norms: paddle.Tensor, count: int
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """For each row of `query` [n, channels], the nearest row and the mean distance to the `count` nearest rows.

    Returns int64 [n] row numbers and float32 [n] mean distances.
    """
    nearness = paddle.matmul(query, bank, transpose_y=True) - half_norms
    rows = paddle.topk(nearness, count, axis=1)[1]
    return columns(rows, 0, 1).reshape([-1]), distances_to(query, bank, rows).sum(axis=1) / count


def reweighting(
    query: paddle.Tensor, bank: paddle.Tensor, neighbors: paddle.Tensor, nearest: paddle.Tensor, patches: paddle.Tensor
) -> paddle.Tensor:
    """The factor of PatchCore's equation 7 for each picture's score, [pictures].

    It is 1 - softmax, where the softmax is over the distances from the picture's worst patch to the neighbours of that
    patch's nearest row, and its value for the nearest row itself is taken.

    Args:
        query: patches [pictures * positions, channels].
        bank: [rows, channels].
        neighbors: int64 [rows, count], the nearest rows of each row, itself first.
        nearest: int64 [pictures * positions], each patch's nearest row.
        patches: distances to these nearest rows, [pictures, positions].
    """
    worst = paddle.argmax(patches, axis=1)
    row = worst + patches.shape[1] * (paddle.cumsum(paddle.ones_like(worst)) - 1)
    patch = paddle.index_select(query, row)
    around = paddle.index_select(neighbors, paddle.index_select(nearest, row))
    # column 0 is the nearest row itself, m* in the paper
    return 1 - nn.functional.softmax(distances_to(patch, bank, around), axis=1)[:, 0]


class CoarseSearch:
    """Coarse to fine search. No distance is too small, and a picture's largest ones are exact (condition below).

    1. The coarse nearness to all rows of the bank is computed: the product over the bank's main axes, plus RESIDUAL
       times the product of the lengths of both residuals. The bank is divided into segments of about SEGMENT rows, and
       the best row of each of the FINE best segments is found.
    2. Each patch is compared exactly with these FINE rows.
    3. The worst patches of each picture are compared with the whole bank. Where the image score smooths distances, they
       are the patches around the largest smoothed distances.

    A distance before step 3 belongs to a real row of the bank, so it is an upper bound. Therefore the picture's largest
    distances are exact if the smallest distance of the patches of step 3, after this step, is no smaller than the
    largest distance of the other patches. Where distances are divided by the spacing of the nearest row, the worst
    patches are those whose distance is largest after division by the least spacing of the FINE rows and of the rows
    around these. Where they are averaged with their neighbours as well, it is the least spacing of the FINE rows alone,
    since few of several neighbours find another row.

    All rows are looked at in step 1. A search that first looks at the means of groups of near rows was tried: in the
    features of textures there are no such groups. On magnetic tiles it missed most nearest rows and made image scores
    18 % too large.
    """

    def __init__(self, channels: int, score: ImageScore) -> None:
        """For patches of `channels` values, whose distances become a picture's score by `score`."""
        self.channels, self.positions, self.score = channels, score.positions, score

    def statistics(self) -> dict[str, paddle.Tensor]:
        """Empty tensors for what `coarse_tables` returns, used before there is a bank."""
        return {
            "coarse_bank": paddle.zeros([0, 0, 0]),
            "coarse_rows": paddle.zeros([0, 0], "int64"),
            "coarse_axes": paddle.zeros([0, self.channels]),
        }

    def free_dimensions(self) -> dict[str, tuple[int, ...]]:
        """Which dimensions of a table depend on the bank, for tables where it is not the first one alone."""
        return {"coarse_bank": (0, 1, 2), "coarse_rows": (0, 1)}

    def __call__(
        self,
        query: paddle.Tensor,
        bank: paddle.Tensor,
        half_norms: paddle.Tensor,
        coarse_bank: paddle.Tensor,
        coarse_rows: paddle.Tensor,
        axes: paddle.Tensor,
        least_unit: paddle.Tensor | None = None,
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Search for the nearest row of each patch.

        Returns the rows' numbers, int64, and the distances, both [pictures * positions].

        Args:
            query: patches, [pictures * positions, channels].
            bank: [rows, channels].
            half_norms: half the squared length of each row, [rows].
            coarse_bank: see `coarse_tables`, as the next two.
            coarse_rows: as above.
            axes: as above.
            least_unit: [rows], given where the distances will be divided by the spacing of their nearest row: the
                least spacing of each row and of the rows around it, see `least_spacing`, or of each row alone.
        """
        nearness = paddle.matmul(self._coarse(query, axes).unsqueeze(0), coarse_bank, transpose_y=True)
        # argmax takes three times as long as max, so it is used in the best segments only
        segment = paddle.topk(nearness.max(axis=2).transpose([1, 0]), FINE, axis=1, sorted=False)[1]
        patch = _count(segment)
        place = paddle.argmax(paddle.gather_nd(nearness, paddle.stack([segment, patch], 2)), axis=2)
        rows = paddle.gather_nd(coarse_rows, paddle.stack([place, segment], 2))
        nearest, distance = self._best_row(query, bank, rows)
        if least_unit is None:
            worst = self._worst(distance, WORST if self.score.gaussian is None else WORST_RELATIVE)
        else:
            least = paddle.index_select(least_unit, rows.reshape([-1])).reshape([-1, FINE]).min(axis=1)
            worst = self._worst(distance / least, WORST_RELATIVE)
        of_worst = paddle.index_select(query, worst)
        exact = exact_nearest(of_worst, bank, half_norms)
        nearest = paddle.scatter(nearest, worst, exact)
        return nearest, paddle.scatter(distance, worst, distance_to(of_worst, bank, exact))

    def _coarse(self, query: paddle.Tensor, axes: paddle.Tensor) -> paddle.Tensor:
        """Patches in the form that is multiplied with the coarse bank's rows, see `patch_form`: [n, axes + 2]."""
        main = paddle.matmul(query, axes, transpose_y=True)
        left = paddle.sqrt(nn.functional.relu(self._squared_lengths(query) - (main * main).sum(axis=1, keepdim=True)))
        return paddle.concat([main, left, paddle.ones_like(left)], 1)

    def _squared_lengths(self, vectors: paddle.Tensor) -> paddle.Tensor:
        """Squared lengths of `vectors` [n, channels]: float32 [n, 1].

        They are a product with ones, since a sum takes three times as long.
        """
        return paddle.matmul(vectors * vectors, paddle.ones([self.channels, 1]))

    def _best_row(
        self, query: paddle.Tensor, bank: paddle.Tensor, rows: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """The nearest of each patch's candidate `rows` [n, FINE]: its number, int64 [n], and its distance, [n]."""
        offset = paddle.gather_nd(bank, rows.unsqueeze(2)) - query.unsqueeze(1)
        squared = self._squared_lengths(offset.reshape([-1, self.channels])).reshape([-1, FINE])
        best = paddle.argmin(squared, axis=1)
        return paddle.index_select(rows.reshape([-1]), best + FINE * _count(best)), paddle.sqrt(squared.min(axis=1))

    def _worst(self, distance: paddle.Tensor, times: int) -> paddle.Tensor:
        """Numbers of each picture's patches with the largest distances: int64 [pictures * count].

        `count` is `times` the share of the positions that the score is the mean of, see `worst_count`. Where the score
        smooths distances, they are the patches around the largest smoothed distances.
        """
        count = worst_count(times * self.score.share, self.positions)
        values = self.score.around(self.score.smoothed(distance))
        worst = paddle.topk(values, count, axis=1, sorted=False)[1]
        picture = _count(columns(worst, 0, 1))
        return (worst + self.positions * picture).reshape([-1])


def worst_count(share: float, positions: int) -> int:
    """How many of a picture's patches are searched exactly: `share` of them, but at least LEAST_WORST or all."""
    return min(max(LEAST_WORST, round(share * positions)), positions)


def _count(rows: paddle.Tensor) -> paddle.Tensor:
    """0, 1, 2, ... along the first axis, in the shape of `rows`; a program does not know the size when it is made."""
    return paddle.cumsum(paddle.ones_like(rows), axis=0) - 1


def coarse_tables(bank: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tables of `CoarseSearch` for a centred bank, float32 [rows, channels], by name.

    Returns:
        coarse_bank: float32 [segments, rows of a segment, axes + 2]; row i of the bank is in segment i % segments.
        coarse_rows: int64 [rows of a segment, segments], the number in the bank of each row of coarse_bank. Places
            that are left over at the end hold the first rows again.
        coarse_axes: float32 [axes, channels].
    """
    axes = principal_axes(bank)[1][:, :AXES]
    coarse = coarse_form(bank, axes)
    segments = max(LEAST, -(-len(bank) // SEGMENT))
    rows = np.resize(np.arange(len(bank)), (-(-len(bank) // segments), segments))
    return {
        "coarse_bank": np.ascontiguousarray(coarse[rows].swapaxes(0, 1)),
        "coarse_rows": rows,
        "coarse_axes": np.ascontiguousarray(axes.T),
    }


def coarse_form(bank: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Rows of the bank in a form whose product with `patch_form` is the coarse nearness: float32 [rows, axes + 2].

    `bank` is float32 [rows, channels], `axes` float32 [channels, axes], orthonormal.
    """
    half = half_norms_of(bank)
    main = _on_axes(bank, axes)
    left = RESIDUAL * np.sqrt(np.maximum(2 * half - (main**2).sum(axis=1), 0))
    return np.concatenate([main, left[:, None], -half[:, None]], 1)


def patch_form(patches: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Patches, float32 [n, channels], in the form to be multiplied with `coarse_form`: float32 [n, axes + 2].

    `CoarseSearch._coarse` computes the same in a program.
    """
    main = _on_axes(patches, axes)
    left = np.sqrt(np.maximum(2 * half_norms_of(patches) - (main**2).sum(axis=1), 0))
    return np.concatenate([main, left[:, None], np.ones_like(left)[:, None]], 1)


def half_norms_of(rows: np.ndarray) -> np.ndarray:
    """Half the squared lengths of float32 [rows, channels]."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64).astype(np.float32) / 2


def _on_axes(rows: np.ndarray, axes: np.ndarray) -> np.ndarray:
    # in parts, since BLAS copies what it is given
    return np.concatenate([rows[start : start + 4096] @ axes for start in range(0, len(rows), 4096)])
