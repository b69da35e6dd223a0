"""Maps pictures to their parts in the training features: the whole picture or its tiles, and those of its copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from deploy.errors import UserError
from deploy.pictures.decode import Picture, picture_shape
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.program import Program

MapAndScore = tuple[np.ndarray, float]
"""Map [height, width] and image score of one picture."""
AT_ONCE = 8
"""Number of parts whose features are scored in one run of a program."""
TOGETHER = 4
"""Most pictures that are held out together; with more, runs of a program are hardly faster."""
FOR_EACH = 40
"""One more picture is held out together for each FOR_EACH pictures, so that those left are nearly all. Held-out scores
rise by .4 % at most (mean; KolektorSDD, bottle, magnetic tile), and differ by 3 to 6 % from picture to picture."""


class Tiling:
    """The parts of training pictures, in the order in which their features were added.

    A part is one input of the program: a whole picture or a tile. A picture's own parts come first, then its copies'.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._shapes: list[tuple[int, int]] = []
        self._own: list[int] = []  # number of parts of each picture, without its copies
        self._ends = [0]

    def add(self, crops: Sequence[np.ndarray]) -> None:
        """Add the next picture: its own crop, then those of its copies, uint8 [height, width, 3] each."""
        shapes = [crop.shape[:2] for crop in crops]
        counts = [len(self._preprocess.tiles(*shape)) if self._preprocess.tiled else 1 for shape in shapes]
        self._shapes.append(shapes[0])
        self._own.append(counts[0])
        self._ends.append(self._ends[-1] + sum(counts))

    @property
    def tiles(self) -> list[int] | None:
        """Number of tiles of each picture, without copies; None if pictures are not tiled."""
        return list(self._own) if self._preprocess.tiled else None

    @property
    def several(self) -> bool:
        """Whether a picture may have several parts."""
        return self._preprocess.tiled or self._ends[-1] > len(self._shapes)

    def pictures(self, parts: int) -> int:
        """Number of pictures, given the number of all parts."""
        return len(self._shapes) if self.several else parts

    def parts(self, pictures: range) -> range:
        """The numbers of all parts of consecutive pictures."""
        return range(self._ends[pictures.start], self._ends[pictures.stop]) if self.several else pictures

    def owner(self, parts: np.ndarray) -> np.ndarray:
        """The number of the picture that each part belongs to."""
        return np.searchsorted(self._ends, parts, "right") - 1 if self.several else parts

    def without_copies(self, pictures: range, features: np.ndarray) -> np.ndarray:
        """Keep the features of the pictures' own parts; `features` [rows, channels] are those of all their parts."""
        if not self.several:
            return features
        first = self._ends[pictures.start]
        kept = [np.arange(self._own[picture]) + self._ends[picture] - first for picture in pictures]
        by_part = features.reshape(len(self.parts(pictures)), -1, features.shape[1])
        return by_part[np.concatenate(kept)].reshape(-1, features.shape[1])

    def join(self, pictures: range, maps: Sequence[np.ndarray], scores: Sequence[float]) -> Iterator[MapAndScore]:
        """Yield map and score of consecutive pictures from those of their own parts, stitched as in `Predictor`."""
        end = 0
        for picture in pictures:
            start, end = end, end + (self._own[picture] if self.several else 1)
            here = slice(start, end)
            shape = self._shapes[picture] if self._preprocess.tiled else self._preprocess.size
            yield self._preprocess.join(maps[here], *shape), max(scores[here])


def together(pictures: int, most: int) -> int:
    """How many of `pictures` are held out together and scored in one run, which is faster than one by one.

    A power of two, so that groups fit into batches; at least 1, and at most `most`.
    """
    count = min(pictures // FOR_EACH, TOGETHER, most)
    return 1 << max(0, count.bit_length() - 1)


def run_parts(scoring: Program, features: np.ndarray, rows: int) -> tuple[np.ndarray, list[float]]:
    """Score parts by their features with the program of `compile_feature_scoring`; return their maps and scores.

    Each part has `rows` rows of `features`.
    """
    some = [features[start : start + AT_ONCE * rows] for start in range(0, len(features), AT_ONCE * rows)]
    maps, scores = map(np.concatenate, zip(*(scoring.run(part, "features") for part in some)))
    return maps, scores.tolist()


def most_parts(pictures: Sequence[Picture], preprocess: Preprocess) -> int:
    """Upper bound of the number of parts of these pictures, without copies.

    A picture that cannot be read is counted as one part.
    """
    if not preprocess.tiled:
        return len(pictures)
    total = 0
    for picture in pictures:
        count = 1
        with suppress(UserError):  # the error is reported when the picture is read
            shape = preprocess.map_shape(*picture_shape(picture))
            count = max(len(preprocess.tiles(*sides)) for sides in (shape, shape[::-1]))  # it may be stored rotated
        total += count
    return total
