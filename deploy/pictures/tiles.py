"""Cutting large pictures into overlapping tiles, and stitching the tiles' maps to one map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

STEP = 32
"""Tiles begin at multiples of this, which is a multiple of every layer's stride. So a place of the picture has the same
patches in every tile."""


@dataclass(frozen=True)
class Tiles:
    """Positions of the tiles of one picture: every combination of a row and a column, row by row.

    Neighbours overlap by at least the pixels that were asked for; if the sides do not divide evenly, all overlap by a
    little more. The last tiles may extend up to STEP - 1 pixels beyond the picture, or further if the picture is
    smaller than a tile. There the colours of the picture's border are repeated.
    """

    shape: tuple[int, int]
    """Height and width of the picture."""
    size: tuple[int, int]
    """Height and width of a tile."""
    rows: tuple[int, ...]
    """First row of the tiles, for each row of tiles."""
    columns: tuple[int, ...]
    """First column of the tiles, for each column of tiles."""
    left_out: frozenset[tuple[int, int]] = frozenset()
    """First row and column of the tiles that are not examined."""

    @classmethod
    def over(
        cls, shape: tuple[int, int], size: tuple[int, int], overlap: int, inside: np.ndarray | None = None
    ) -> Tiles:
        """The tiles of this size that cover a picture of this shape; size minus overlap must be a multiple of STEP.

        Tiles without a pixel of the region of interest `inside`, bool [*shape], are left out; None: all are examined.
        """
        rows, columns = (_places(length, tile, overlap) for length, tile in zip(shape, size))
        if inside is None:
            return cls(shape, size, rows, columns)
        every = product(rows, columns)
        out = [(top, left) for top, left in every if not inside[top : top + size[0], left : left + size[1]].any()]
        return cls(shape, size, rows, columns, frozenset(out))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First row and column of each tile that is examined."""
        return (place for place in product(self.rows, self.columns) if place not in self.left_out)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns) - len(self.left_out)

    def cut(self, picture: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the tiles [*size, channels] of a picture [*shape, channels]; they are views if they lie within it."""
        height, width = self.size
        for top, left in self:
            tile = picture[top : top + height, left : left + width]
            below, right = height - tile.shape[0], width - tile.shape[1]
            border = below or right
            yield cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_REPLICATE) if border else tile

    def stitch(self, maps: Iterable[np.ndarray]) -> np.ndarray:
        """Stitch the tiles' maps, [*size] each, in the order of `cut`; return the picture's map, float32 [*shape].

        Where two tiles overlap, one map fades into the other in the middle half of the overlap. At the border of a tile
        its map is less reliable, because convolutions see padded zeros there. The maps are taken one at a time. It is 0
        where no tile is examined.
        """
        places = self.rows, self.columns
        down, across = (dict(zip(own, _weights(own, *sides))) for own, *sides in zip(places, self.size, self.shape))
        whole, found = np.zeros(self.shape, np.float32), iter(maps)
        for top, left in self:
            by_row, by_column = down[top], across[left]
            here = whole[top : top + len(by_row), left : left + len(by_column)]
            part = next(found)[: len(by_row), : len(by_column)]
            here += part * by_row[:, None] * by_column
        return whole


def _places(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Start positions of the tiles along one side."""
    if length <= tile:
        return (0,)
    last = -(-(length - tile) // STEP) * STEP
    steps = -(-last // (tile - overlap))
    return tuple(last * number // steps // STEP * STEP for number in range(steps + 1))


def _weights(places: tuple[int, ...], tile: int, length: int) -> list[np.ndarray]:
    """Weights of each tile along one side, float32, at its pixels within the picture; at each pixel their sum is 1."""
    found = []
    for number, place in enumerate(places):
        weight, at = np.ones(tile), np.arange(tile) + 0.5
        before, after = places[max(0, number - 1)], places[min(number + 1, len(places) - 1)]
        if place > before:  # without an overlap, the weight is 1 from the first pixel on
            weight = np.minimum(weight, np.clip(2 * at / max(before + tile - place, 0.1) - 0.5, 0, 1))
        if after > place:
            weight = np.minimum(weight, np.clip(2 * (tile - at) / max(place + tile - after, 0.1) - 0.5, 0, 1))
        found.append(weight[: length - place])
    total = np.zeros(length)
    for place, weight in zip(places, found):
        total[place : place + len(weight)] += weight
    return [(weight / total[place : place + len(weight)]).astype(np.float32) for place, weight in zip(places, found)]
