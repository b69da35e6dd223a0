"""Large pictures as overlapping tiles: how they are cut, and how the tiles' maps become one map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

STEP = 32
"""Tiles begin at multiples of this, as every backbone's stride, so that one place has the same patches in any tile."""


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of one picture lie: at every combination of a row and a column, row by row.

    Neighbours share at least the overlap that was asked for; where the sides do not divide evenly, all share a little
    more. The last ones may extend up to STEP - 1 pixels beyond the picture, or further if it is smaller than a tile;
    its border's colours are repeated there.
    """

    shape: tuple[int, int]
    """Height and width of the picture."""
    size: tuple[int, int]
    """Height and width of a tile."""
    rows: tuple[int, ...]
    """Where tiles begin, from the top."""
    columns: tuple[int, ...]
    """Where they begin, from the left."""

    @classmethod
    def over(cls, shape: tuple[int, int], size: tuple[int, int], overlap: int) -> Tiles:
        """The tiles of this size that cover a picture of this shape; size minus overlap is a multiple of STEP."""
        rows, columns = (_places(length, tile, overlap) for length, tile in zip(shape, size))
        return cls(shape, size, rows, columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def cut(self, picture: np.ndarray) -> Iterator[np.ndarray]:
        """The tiles [*size, channels] of a picture [*shape, channels]; views of it where they lie within."""
        height, width = self.size
        for top in self.rows:
            for left in self.columns:
                tile = picture[top : top + height, left : left + width]
                below, right = height - tile.shape[0], width - tile.shape[1]
                border = below or right
                yield cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_REPLICATE) if border else tile

    def stitch(self, maps: Iterable[np.ndarray]) -> np.ndarray:
        """The map of the whole, float32 [*shape], from those of the tiles, [*size] each, in the order of `cut`.

        Where tiles overlap, one fades into the other in the middle half of what they share: at its border a tile's map
        suffers from the zeros that convolutions see there. The maps are taken one at a time.
        """
        down, across = (_weights(*sides) for sides in zip((self.rows, self.columns), self.size, self.shape))
        whole, found = np.zeros(self.shape, np.float32), iter(maps)
        for top, by_row in zip(self.rows, down):
            for left, by_column in zip(self.columns, across):
                here = whole[top : top + len(by_row), left : left + len(by_column)]
                part = next(found)[: len(by_row), : len(by_column)]
                here += part * by_row[:, None] * by_column
        return whole


def _places(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Where tiles begin along one side."""
    if length <= tile:
        return (0,)
    last = -(-(length - tile) // STEP) * STEP
    steps = -(-last // (tile - overlap))
    return tuple(last * number // steps // STEP * STEP for number in range(steps + 1))


def _weights(places: tuple[int, ...], tile: int, length: int) -> list[np.ndarray]:
    """What each tile along one side counts at its pixels within the picture, float32; everywhere the sum is 1."""
    found = []
    for number, place in enumerate(places):
        weight, at = np.ones(tile), np.arange(tile) + 0.5
        before, after = places[max(0, number - 1)], places[min(number + 1, len(places) - 1)]
        if place > before:  # without an overlap it is 1 from the first pixel on
            weight = np.minimum(weight, np.clip(2 * at / max(before + tile - place, 0.1) - 0.5, 0, 1))
        if after > place:
            weight = np.minimum(weight, np.clip(2 * (tile - at) / max(place + tile - after, 0.1) - 0.5, 0, 1))
        found.append(weight[: length - place])
    total = np.zeros(length)
    for place, weight in zip(places, found):
        total[place : place + len(weight)] += weight
    return [(weight / total[place : place + len(weight)]).astype(np.float32) for place, weight in zip(places, found)]
