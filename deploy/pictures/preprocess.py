"""Preprocessing of every picture: one object, saved with the model and with every export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from ..errors import UserError
from .antialias import resize
from .decode import Picture, decode_bgr

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LONGEST = 32
"""A picture's long side is at most this many short sides: the crop shows no more than that part of it, and the whole
would be enlarged to many megabytes."""


@dataclass(frozen=True)
class Preprocess:
    """Short side to `resize` pixels with antialiasing, centre crop of `crop_size`, /255, minus mean, over std (RGB)."""

    resize: int = 256
    crop_size: int = 224
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.crop_size > self.resize:
            raise UserError(
                f"--crop_size {self.crop_size} is larger than --resize {self.resize}: a crop cannot exceed the picture"
            )
        if self.crop_size < 32:
            raise UserError(f"--crop_size {self.crop_size} is too small: a backbone needs at least 32 pixels")

    def to_dict(self) -> dict[str, Any]:
        """The values as plain json types, for `from_dict`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The inverse of `to_dict`."""
        return cls(values["resize"], values["crop_size"], tuple(values["mean"]), tuple(values["std"]))

    def resized(self, picture: Picture) -> np.ndarray:
        """A path or uint8 RGB array [height, width, 3] as uint8 RGB with its short side at `resize`.

        Raises:
            UserError: it cannot be read, is no such array, or is longer than LONGEST times its short side.
        """
        if not isinstance(picture, np.ndarray):
            decoded = decode_bgr(picture)
            _check_sides(decoded, f"picture {picture}")
            # Resizing treats channels alike, so they are swapped in the small picture.
            return cv2.cvtColor(self._smaller(decoded), cv2.COLOR_BGR2RGB)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
            raise UserError(f"a picture array must be uint8 [height, width, 3], got {picture.dtype} {picture.shape}")
        _check_sides(picture, "a picture array")
        return self._smaller(picture)

    def _smaller(self, picture: np.ndarray) -> np.ndarray:
        return resize(picture, *self.resized_shape(*picture.shape[:2]))

    def resized_mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask [height, width] (0 good, else defect) in the resized geometry, nearest neighbour, bool."""
        height, width = self.resized_shape(*mask.shape)
        return cv2.resize((mask > 0).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the short side became `resize`."""
        scale = self.resize / min(height, width)
        return max(self.resize, round(height * scale)), max(self.resize, round(width * scale))

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """Top and left of the centre crop inside a resized picture."""
        return (height - self.crop_size) // 2, (width - self.crop_size) // 2

    def crop(self, resized: np.ndarray) -> np.ndarray:
        """The centre `crop_size` x `crop_size` of a resized picture or mask."""
        top, left = self.corner(*resized.shape[:2])
        return resized[top : top + self.crop_size, left : left + self.crop_size]

    def normalise(self, crops: np.ndarray) -> np.ndarray:
        """uint8 RGB [batch, crop, crop, 3] to the program's input: float32 [batch, 3, crop, crop]."""
        scale, shift = self.scale_and_shift()
        output = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
        for channel in range(3):
            np.multiply(crops[..., channel], scale[channel], out=output[:, channel])
            output[:, channel] += shift[channel]
        return output

    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 [3] each: the program receives value * scale[c] + shift[c] for a value 0-255 of channel c."""
        scale = (1.0 / (255.0 * np.asarray(self.std))).astype(np.float32)
        return scale, (-np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)


def _check_sides(picture: np.ndarray, name: str) -> None:
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST * min(height, width):
        raise UserError(f"{name} is {width} x {height} pixels: no side may be over {LONGEST} times the other; cut it")
