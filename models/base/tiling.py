"""Which of the features that were added belong to which picture: one part of each picture, or as many as its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from deploy.errors import UserError
from deploy.pictures.decode import Picture, picture_shape
from deploy.pictures.preprocess import Preprocess

MapAndScore = tuple[np.ndarray, float]
"""Map [height, width] and image score of one picture."""


class Tiling:
    """The parts of the pictures that were added, which the program sees one by one."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._shapes: list[tuple[int, int]] = []
        self._ends = [0]

    def add(self, crop: np.ndarray) -> None:
        """Note the next picture, uint8 [height, width, 3], whose parts follow those of the picture before."""
        shape = crop.shape[:2]
        self._shapes.append(shape)
        self._ends.append(self._ends[-1] + (len(self._preprocess.tiles(*shape)) if self._preprocess.tiled else 1))

    def pictures(self, parts: int) -> int:
        """How many pictures so many parts are of, which are all parts."""
        return len(self._shapes) if self._preprocess.tiled else parts

    def parts(self, pictures: range) -> range:
        """The numbers of the parts of consecutive pictures."""
        return range(self._ends[pictures.start], self._ends[pictures.stop]) if self._preprocess.tiled else pictures

    def owner(self, parts: np.ndarray) -> np.ndarray:
        """The number of the picture that each of these parts is of."""
        return np.searchsorted(self._ends, parts, "right") - 1 if self._preprocess.tiled else parts

    def join(self, pictures: range, maps: Sequence[np.ndarray], scores: Sequence[float]) -> Iterator[MapAndScore]:
        """Yield map and score of consecutive pictures from those of all their parts, as `Predictor` does."""
        first = self.parts(pictures).start
        for picture in pictures:
            own = self.parts(range(picture, picture + 1))
            here = slice(own.start - first, own.stop - first)
            shape = self._shapes[picture] if self._preprocess.tiled else self._preprocess.size
            yield self._preprocess.join(maps[here], *shape), max(scores[here])


def most_parts(pictures: Sequence[Picture], preprocess: Preprocess) -> int:
    """How many parts these pictures have at most; what cannot be read counts as one."""
    if not preprocess.tiled:
        return len(pictures)
    total = 0
    for picture in pictures:
        shape = preprocess.size
        with suppress(UserError):  # it is told about when it is its turn
            shape = preprocess.map_shape(*picture_shape(picture))
        total += max(len(preprocess.tiles(*sides)) for sides in (shape, shape[::-1]))  # it may have to be turned
    return total
