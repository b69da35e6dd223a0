"""Augmentation: mirrored and rotated copies of training pictures, for products that lie in any orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import Loaded

ANGLES = 3
"""Number of copies of a picture that `rotate` makes."""
KINDS = ("flip", "rot90", "rotate")
"""`flip` mirrors the picture left to right. `rot90` rotates it by 90, 180 and 270 degrees, or only by 180 degrees if
the program's input is not square. `rotate` makes ANGLES copies at evenly spaced angles, the first of which is random;
the picture is mirrored at its border."""


@dataclass(frozen=True)
class Augment:
    """The kinds of copies that the user asked for. They are used if they help or, if `forced`, always.

    Raises:
        UserError: a kind is unknown, or is given twice.
    """

    asked: tuple[str, ...] = ()
    forced: bool = False

    def __post_init__(self) -> None:
        for kind in self.asked:
            if kind not in KINDS or self.asked.count(kind) > 1:
                raise UserError(f"--augment {','.join(self.asked)}: give any of {', '.join(KINDS)}, each once")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain json types."""
        return {"asked": list(self.asked), "forced": self.forced}


def as_augment(given: object) -> Augment:
    """Return `given`, or what copies nothing for None; UserError if it is not an Augment."""
    if not isinstance(given, (Augment, type(None))):
        raise UserError(f"augment {given!r}: give models.Augment(('flip',)), with the kinds that you want")
    return given or Augment()


def copies_each(kinds: Sequence[str], preprocess: Preprocess) -> int:
    """How many copies of each picture these kinds make."""
    return sum({"flip": 1, "rot90": len(_turns(preprocess)), "rotate": ANGLES}[kind] for kind in kinds)


def copies(item: Loaded, kinds: Sequence[str], preprocess: Preprocess, seed: int, number: int) -> list[np.ndarray]:
    """Make a training picture's copies: uint8 RGB [height, width, 3] each, cropped.

    They are made of the resized picture, before it is cropped. `seed` and the picture's `number` decide the angles.
    """
    found: list[np.ndarray] = []
    for kind in kinds:
        if kind == "flip":
            found.append(item.resized[:, ::-1])
        elif kind == "rot90":
            found += [np.rot90(item.resized, turns) for turns in _turns(preprocess)]
        else:
            first = np.random.default_rng((seed, number)).uniform(0, 360)
            found += [rotated(item, first + 360 * part / ANGLES, preprocess) for part in range(ANGLES)]
    return [np.ascontiguousarray(preprocess.crop(resized)) for resized in found]


def rotated(item: Loaded, degrees: float, preprocess: Preprocess) -> np.ndarray:
    """Rotate the resized picture counter-clockwise about its centre: uint8 RGB of the same size.

    If resizing stretched the picture, it is rotated as the product itself would be, in the original proportions.
    """
    height, width = item.resized.shape[:2]
    scale = np.diag((width / item.shape[1], height / item.shape[0]) if preprocess.fit == "stretch" else (1.0, 1.0))
    turn = scale @ cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2] @ np.linalg.inv(scale)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, centre - turn @ centre])
    return cv2.warpAffine(item.resized, matrix, (width, height), None, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)


def _turns(preprocess: Preprocess) -> tuple[int, ...]:
    """Numbers of right angles by which `rot90` rotates, one for each copy."""
    return (1, 2, 3) if preprocess.tiled or preprocess.size[0] == preprocess.size[1] else (2,)
