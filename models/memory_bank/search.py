"""The nearest row of a memory bank for every patch: by all distances, or coarse to fine with the worst patches exact.

|q - b|^2 is smallest where q b - |b|^2 / 2, the nearness, is largest, so one matrix product finds the nearest row. At a
10 % bank that product costs several times the backbone, and writing its [patches, rows] result as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from ..graph.scores import columns
from ..threads import one_thread
from .coreset import principal_axes

AXES, MORE_AXES = 78, 126
"""Principal axes of the coarse stage, of large banks and of small ones, whose products cost little. With the residual
norm and the half norm its products have 80 or 128 terms."""
SMALL = 4096  # rows of a small bank
SEGMENT = 256
"""Rows of a segment of the bank, each of which gives its best row. To find where in a segment that is costs more per
row than to find the best segments."""
LEAST = 8  # segments
FINE = 3  # of these rows, how many are compared exactly
WORST, WORST_RELATIVE = 0.04, 0.16
"""Shares of a picture's patches that are searched exactly; the second where distances count in units of the nearest
row's own, as then a patch's may grow with another row."""
LEAST_WORST = 32  # patches of small pictures
RESIDUAL = 0.8  # share of the product of both residual norms that is expected of the residuals' own product


def exact_nearest(query: paddle.Tensor, bank: paddle.Tensor, half_norms: paddle.Tensor) -> paddle.Tensor:
    """The nearest row of bank [rows, channels] for each of query [n, channels]: int64 [n]."""
    return paddle.argmax(paddle.matmul(query, bank, transpose_y=True) - half_norms, axis=1)


def distance_to(query: paddle.Tensor, bank: paddle.Tensor, nearest: paddle.Tensor) -> paddle.Tensor:
    """Euclidean distances [n] to the given rows, taken directly: the product cancels badly for near ones."""
    offset = query - paddle.index_select(bank, nearest)
    return paddle.sqrt((offset * offset).sum(axis=1))


def distances_to(query: paddle.Tensor, bank: paddle.Tensor, rows: paddle.Tensor) -> paddle.Tensor:
    """Distances [n, count] from each of query [n, channels] to its own rows [n, count] of the bank."""
    chosen = paddle.index_select(bank, rows.reshape([-1])).reshape([-1, rows.shape[1], query.shape[1]])
    return paddle.sqrt(((query.unsqueeze(1) - chosen) ** 2).sum(axis=2))


def several_nearest(
    query: paddle.Tensor, bank: paddle.Tensor, half_norms: paddle.Tensor, count: int
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The nearest row for each of query [n, channels], int64 [n], and the mean distance to the `count` nearest, [n]."""
    nearness = paddle.matmul(query, bank, transpose_y=True) - half_norms
    rows = paddle.topk(nearness, count, axis=1)[1]
    return columns(rows, 0, 1).reshape([-1]), distances_to(query, bank, rows).sum(axis=1) / count


def reweighting(
    query: paddle.Tensor, bank: paddle.Tensor, neighbors: paddle.Tensor, nearest: paddle.Tensor, patches: paddle.Tensor
) -> paddle.Tensor:
    """Equation 7 of PatchCore: 1 - softmax of distances from the worst patch to its row's neighbours, [pictures].

    Args:
        query: [pictures * positions, channels].
        bank: [rows, channels].
        neighbors: int64 [rows, count], of each row, itself first.
        nearest: int64 [pictures * positions], rows.
        patches: distances to them, [pictures, positions].
    """
    worst = paddle.argmax(patches, axis=1)
    row = worst + patches.shape[1] * (paddle.cumsum(paddle.ones_like(worst)) - 1)
    patch = paddle.index_select(query, row)
    around = paddle.index_select(neighbors, paddle.index_select(nearest, row))
    # column 0 is the nearest row itself, m* in the paper
    return 1 - nn.functional.softmax(distances_to(patch, bank, around), axis=1)[:, 0]


class CoarseSearch:
    """Coarse to fine: distances are those to a real row of the bank, so never too small, and the largest are exact.

    1. Coarse nearness to all rows of the bank: over its main axes, plus RESIDUAL times the product of what is left of
       both vectors' lengths. The bank lies in segments of SEGMENT rows, and each one's best row is found.
    2. The FINE best of these rows are compared exactly.
    3. The worst patches of each picture are compared with the whole bank.

    Every distance before step 3 is an upper bound, so the picture's largest distances are exact whenever the least of
    them after step 3 is no smaller than the largest that step 3 left alone. Where they count in units of their rows'
    own, the worst patches are those that are largest in the least unit of the FINE rows and of the rows around these.

    All rows are looked at because groups of near ones, whose means alone are looked at first, do not exist in the
    features of textures: on magnetic tiles such a search missed most nearest rows and made image scores 18 % too large.
    """

    def __init__(self, channels: int, positions: int) -> None:
        """For patches of `channels` values, `positions` of them per picture."""
        self.channels, self.positions = channels, positions

    def statistics(self) -> dict[str, paddle.Tensor]:
        """What `coarse_tables` gives, before there is a bank."""
        return {
            "coarse_bank": paddle.zeros([0, 0, 0]),
            "coarse_rows": paddle.zeros([0, 0], "int64"),
            "coarse_axes": paddle.zeros([0, self.channels]),
        }

    def free_dimensions(self) -> dict[str, tuple[int, ...]]:
        """Return which dimensions of the tables depend on the bank, where not the first alone."""
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
        """query [pictures * positions, channels] to nearest rows, int64, and distances, both [pictures * positions].

        `least_unit` [rows] is given where distances will be divided by the nearest row's own unit: the least one of
        the row and of those around it.
        """
        nearness = paddle.matmul(self._coarse(query, axes).unsqueeze(0), coarse_bank, transpose_y=True)
        # argmax takes three times as long as max: it looks at the best segments only
        segment = paddle.topk(nearness.max(axis=2).transpose([1, 0]), FINE, axis=1, sorted=False)[1]
        patch = _count(segment)
        place = paddle.argmax(paddle.gather_nd(nearness, paddle.stack([segment, patch], 2)), axis=2)
        rows = paddle.gather_nd(coarse_rows, paddle.stack([place, segment], 2))
        nearest, distance = self._best_row(query, bank, rows)
        if least_unit is None:
            worst = self._worst(distance, WORST)
        else:
            least = paddle.index_select(least_unit, rows.reshape([-1])).reshape([-1, FINE]).min(axis=1)
            worst = self._worst(distance / least, WORST_RELATIVE)
        of_worst = paddle.index_select(query, worst)
        exact = exact_nearest(of_worst, bank, half_norms)
        nearest = paddle.scatter(nearest, worst, exact)
        return nearest, paddle.scatter(distance, worst, distance_to(of_worst, bank, exact))

    def _coarse(self, query: paddle.Tensor, axes: paddle.Tensor) -> paddle.Tensor:
        """Return what the coarse bank's rows are multiplied with: [n, axes + 2]."""
        main = paddle.matmul(query, axes, transpose_y=True)
        left = paddle.sqrt(nn.functional.relu(self._squared_lengths(query) - (main * main).sum(axis=1, keepdim=True)))
        return paddle.concat([main, left, paddle.ones_like(left)], 1)

    def _squared_lengths(self, vectors: paddle.Tensor) -> paddle.Tensor:
        """Of [n, channels], float32 [n, 1], by a product with ones: a sum takes three times as long."""
        return paddle.matmul(vectors * vectors, paddle.ones([self.channels, 1]))

    def _best_row(
        self, query: paddle.Tensor, bank: paddle.Tensor, rows: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Of each patch's rows, [n, FINE], the nearest, int64 [n], and the distance to it, [n]."""
        offset = paddle.gather_nd(bank, rows.unsqueeze(2)) - query.unsqueeze(1)
        squared = self._squared_lengths(offset.reshape([-1, self.channels])).reshape([-1, FINE])
        best = paddle.argmin(squared, axis=1)
        return paddle.index_select(rows.reshape([-1]), best + FINE * _count(best)), paddle.sqrt(squared.min(axis=1))

    def _worst(self, distance: paddle.Tensor, share: float) -> paddle.Tensor:
        """Numbers of this share of each picture's distances, the largest: int64 [pictures * so many]."""
        count = worst_count(share, self.positions)
        worst = paddle.topk(distance.reshape([-1, self.positions]), count, axis=1, sorted=False)[1]
        picture = _count(columns(worst, 0, 1))
        return (worst + self.positions * picture).reshape([-1])


def worst_count(share: float, positions: int) -> int:
    """How many patches of a picture are searched exactly."""
    return min(max(LEAST_WORST, round(share * positions)), positions)


def _count(rows: paddle.Tensor) -> paddle.Tensor:
    """0, 1, 2, ... as many as there are `rows`, in its shape; a program does not know the number beforehand."""
    return paddle.cumsum(paddle.ones_like(rows), axis=0) - 1


def coarse_tables(bank: np.ndarray) -> dict[str, np.ndarray]:
    """Return the statistics that `CoarseSearch` wants for a centred bank, float32 [rows, channels], by name.

    coarse_bank float32 [segments, rows of a segment, axes + 2], rows in turn in the segments; coarse_rows int64
    [rows of a segment, segments], where they are in the bank, the first ones again where they do not fill the last
    places; coarse_axes float32 [axes, channels].
    """
    axes = principal_axes(bank)[1][:, : AXES if len(bank) > SMALL else MORE_AXES]
    coarse = coarse_form(bank, axes)
    segments = max(LEAST, -(-len(bank) // SEGMENT))
    rows = np.resize(np.arange(len(bank)), (-(-len(bank) // segments), segments))
    return {
        "coarse_bank": np.ascontiguousarray(coarse[rows].swapaxes(0, 1)),
        "coarse_rows": rows,
        "coarse_axes": np.ascontiguousarray(axes.T),
    }


def coarse_form(bank: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """What products with `patch_form` make a coarse nearness of: float32 [rows, axes + 2].

    `bank` is float32 [rows, channels], `axes` float32 [channels, axes], orthonormal.
    """
    half = half_norms_of(bank)
    main = _on_axes(bank, axes)
    left = RESIDUAL * np.sqrt(np.maximum(2 * half - (main**2).sum(axis=1), 0))
    return np.concatenate([main, left[:, None], -half[:, None]], 1)


def patch_form(patches: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The same of patches, float32 [n, channels]; `CoarseSearch` computes it too."""
    main = _on_axes(patches, axes)
    left = np.sqrt(np.maximum(2 * half_norms_of(patches) - (main**2).sum(axis=1), 0))
    return np.concatenate([main, left[:, None], np.ones_like(left)[:, None]], 1)


def half_norms_of(rows: np.ndarray) -> np.ndarray:
    """Half the squared lengths of float32 [rows, channels]."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64).astype(np.float32) / 2


def _on_axes(rows: np.ndarray, axes: np.ndarray) -> np.ndarray:
    # in parts, of which BLAS makes copies
    return np.concatenate([rows[start : start + 4096] @ axes for start in range(0, len(rows), 4096)])


@contextmanager
def rows_replaced(
    fitted: dict[str, np.ndarray], rows: np.ndarray, others: np.ndarray, changed: np.ndarray, values: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """Replace rows of a bank and of what belongs to them, in place, until the context ends.

    Row changed[i] becomes values[i], float32 [n, channels]; then row rows[i] becomes what row others[i] is. What the
    coarse search has in another form is yielded.
    """
    replacement = np.arange(len(fitted["memory_bank"]))
    replacement[rows] = others
    tables = replace_rows(fitted, replacement, changed, values) if "coarse_bank" in fitted else {}
    names = "memory_bank", "half_norms", "neighbors", "spacing", "least_spacing"
    by_row = [fitted[name] for name in names if name in fitted]
    touched = np.union1d(rows, changed)
    own = [value[touched] for value in by_row]
    try:
        fitted["memory_bank"][changed], fitted["half_norms"][changed] = values, half_norms_of(values)
        for value in by_row:
            value[rows] = value[others]
        yield tables
    finally:
        for value, kept in zip(by_row, own):
            value[touched] = kept


@one_thread
def replace_rows(
    tables: dict[str, np.ndarray], rows: np.ndarray, changed: np.ndarray, values: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the table that changes when the bank does.

    Row changed[i] becomes values[i], float32 [n, channels]; then row i becomes what row rows[i] is. No row that another
    one becomes may itself become another.
    """
    coarse_bank, places = tables["coarse_bank"].copy(), tables["coarse_rows"].T
    if len(changed):
        form, number = coarse_form(values, tables["coarse_axes"].T), np.full(len(rows), -1)
        number[changed] = np.arange(len(changed))
        segment, place = np.nonzero(number[places] >= 0)
        coarse_bank[segment, place] = form[number[places[segment, place]]]
    moved = rows[places]
    segment, place = np.nonzero(moved != places)
    other, segments = moved[segment, place], len(coarse_bank)
    coarse_bank[segment, place] = coarse_bank[other % segments, other // segments]
    return {"coarse_bank": coarse_bank}
