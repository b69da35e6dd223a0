"""Makes many pictures from few: copies are mirrored and rotated by right angles, further ones by small angles too."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deploy.pictures.decode import encode_png
from deploy.pictures.preprocess import Preprocess

SYMMETRIES = 8
ANGLE = 6.0
"""Largest small angle in degrees; small angles are uniform in both directions."""


def multiply(pictures: list[Path], count: int, preprocess: Preprocess, seed: int, folder: Path) -> None:
    """Write `count` different resized pictures to `folder`: all unchanged, then all with the next symmetry, etc."""
    for number in range(count):
        variant, base = divmod(number, len(pictures))
        picture = symmetry(preprocess.resized(pictures[base]), variant % SYMMETRIES)
        if variant >= SYMMETRIES:
            picture = turned(picture, float(np.random.default_rng([seed, number]).uniform(-ANGLE, ANGLE)))
        (folder / f"{number:05d}.png").write_bytes(encode_png(picture))


def symmetry(picture: np.ndarray, number: int) -> np.ndarray:
    """Apply one of the eight symmetries of a square; number 0 changes nothing."""
    return np.ascontiguousarray(np.rot90(picture if number < 4 else picture[:, ::-1], number % 4))


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate a picture about its middle; it is reflected at its border."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
