"""Copies of training pictures, mirrored and turned, for products that come in any position."""

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
"""Copies of a picture that `rotate` makes."""
KINDS = ("flip", "rot90", "rotate")
"""`flip` is a mirror image, left to right. `rot90` is the picture turned by 90, 180 and 270 degrees, or by 180 alone
where the program's input is not square. `rotate` is ANGLES copies at angles that the seed draws, evenly apart; beyond
its border the picture is mirrored."""


@dataclass(frozen=True)
class Augment:
    """Which kinds of copies are asked for; they are entered where they help, or, if `forced`, in any case.

    Raises:
        UserError: a kind is unknown, or there twice.
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


def copies_each(kinds: Sequence[str], preprocess: Preprocess) -> int:
    """How many copies of each picture these kinds make."""
    return sum({"flip": 1, "rot90": len(_turns(preprocess)), "rotate": ANGLES}[kind] for kind in kinds)


def copies(item: Loaded, kinds: Sequence[str], preprocess: Preprocess, seed: int, number: int) -> list[np.ndarray]:
    """What is examined of a training picture's copies: uint8 RGB [height, width, 3] each, as `crop` gives it.

    Copies are made of the resized picture, before anything is cut away. `seed` and its `number` decide the angles.
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
    """The resized picture turned counter-clockwise about its centre, uint8 RGB of the same size.

    A stretched picture is turned as the product turns: in the picture's own proportions.
    """
    height, width = item.resized.shape[:2]
    scale = np.diag((width / item.shape[1], height / item.shape[0]) if preprocess.fit == "stretch" else (1.0, 1.0))
    turn = scale @ cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2] @ np.linalg.inv(scale)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, centre - turn @ centre])
    return cv2.warpAffine(item.resized, matrix, (width, height), None, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)


def _turns(preprocess: Preprocess) -> tuple[int, ...]:
    """By how many right angles `rot90` turns."""
    return (1, 2, 3) if preprocess.tiled or preprocess.size[0] == preprocess.size[1] else (2,)
