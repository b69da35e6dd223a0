"""Preprocessing of every picture: one object, saved with the model and with every export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Union

import cv2
import numpy as np

from ..errors import UserError
from ..storage.header import LARGEST
from .antialias import resize
from .decode import Picture, decode_bgr, most_pixels
from .tiles import STEP, Tiles

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LONGEST = 32
"""Largest ratio of a picture's sides. In a longer picture, the crop would show only a small part of it, and the resized
picture would have many megabytes."""
BLANK = tuple(round(255 * level) for level in IMAGENET_MEAN)
"""Colour of the pixels outside of a region of interest."""
FITS = ("crop", "stretch", "pad")
TILE = "tile"
Size = Union[int, Sequence[int]]
"""Height and width in pixels, or one number for both."""


def _sides(size: Size) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, (tuple, list)) else (size,)


def height_width(size: Size) -> tuple[int, int]:
    """Return a size as (height, width)."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _checked_range(given: Sequence[int]) -> tuple[int, int]:
    limits = tuple(given)
    whole = len(limits) == 2 and all(isinstance(value, Integral) for value in limits)
    if not whole or not 0 <= limits[0] < limits[1] < 1 << 16:
        raise UserError(f"--range {' '.join(map(str, limits))}: give two values, 0 to 65535, ascending")
    return int(limits[0]), int(limits[1])


@dataclass(frozen=True)
class Preprocess:
    """Converts pictures to the program's input: resize with antialiasing, crop, / 255, minus mean, / std (RGB).

    `crop_size` is one number, or height and width. `fit` decides how a picture is brought to it:

    - `crop`: the short side is resized to `resize` (or to more, if a `crop_size` of two numbers needs it), and the
      centre is cut out; the rest is not examined;
    - `stretch`: the whole picture is resized to `crop_size`, with different factors for its two sides;
    - `pad`: the whole picture is resized to fit into `crop_size`, and the border's colours are repeated around it;
    - `tile`: the whole picture is examined in tiles of `crop_size` that overlap by `overlap` pixels. Before, its short
      side is resized to `resize`; None keeps its own size. The program's input is then a tile.
    """

    resize: int | None = 256
    crop_size: Size = 224
    fit: str = "crop"
    mean: Sequence[float] = IMAGENET_MEAN
    """Of red, green and blue, on a scale from 0 to 1; so is `std`, which must be above 0."""
    std: Sequence[float] = IMAGENET_STD
    value_range: tuple[int, int] | None = None
    """The values of 16-bit pictures that become 0 and 255; None keeps their upper 8 bits."""
    overlap: int | None = None
    """Overlap of neighbouring tiles, in pixels."""
    roi: tuple[int, ...] | None = None
    """Region of interest in the input, run-length coded row by row: how many pixels are outside, then inside, then
    outside, and so on.

    Pixels outside have the same colour in every picture, so that they are neither learned nor scored. None: all pixels
    are inside.
    """
    roi_size: tuple[int, int] | None = None
    """With tiles, the region is one of the whole resized picture, of this height and width. Without, it is None."""

    def __post_init__(self) -> None:
        if self.fit not in (*FITS, TILE):
            raise UserError(f"--fit {self.fit} is unknown: choose one of {', '.join(FITS)}")
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise UserError(f"mean {self.mean}, std {self.std}: give three numbers each, those of std above 0")
        if self.value_range is not None:
            object.__setattr__(self, "value_range", _checked_range(self.value_range))
        option = "tile" if self.tiled else "crop_size"
        sides = [(option, side) for side in _sides(self.crop_size)]
        for name, size in [*sides, *([] if self.tiled and self.resize is None else [("resize", self.resize)])]:
            if not isinstance(size, Integral) or not 0 < size <= LARGEST:
                raise UserError(f"--{name} {size}: give whole numbers of pixels from 1 to {LARGEST}")
        found = tuple(int(size) for _, size in sides)
        if len(found) > 2:
            raise UserError(f"--{option} {' '.join(map(str, found))}: give one number, or height and width")
        # a square is stored as one number, so that both ways to give it are the same setting
        object.__setattr__(self, "crop_size", found[0] if len(set(found)) == 1 else found)
        object.__setattr__(self, "resize", self.resize if self.resize is None else int(self.resize))
        if self.fit == "crop" and min(self.size) > self.resize:
            raise UserError(
                f"--crop_size {self.crop_size} is larger than --resize {self.resize}: a crop cannot exceed the picture"
            )
        if min(self.size) < 32:
            raise UserError(f"--{option} {self.crop_size} is too small: a backbone needs at least 32 pixels")
        if self.tiled != (self.overlap is not None):
            raise UserError(f"--overlap {self.overlap} is how much tiles share: give it with --tile")
        if self.tiled:
            self._check_tiles()
        if (self.roi_size is not None) != (self.tiled and self.roi is not None):
            raise UserError("the region of interest of tiles has a size, and no other has: make it again")
        height, width = self.roi_size or self.size
        if self.roi is not None and (sum(self.roi) != height * width or not sum(self.roi[1::2])):
            raise UserError(f"the region of interest is none of {height} x {width} pixels: make it again")

    def _check_tiles(self) -> None:
        if not 0 <= self.overlap < min(self.size) or any((side - self.overlap) % STEP for side in self.size):
            raise UserError(
                f"--overlap {self.overlap}: give 0 to {min(self.size) - STEP}, and so that --tile minus --overlap is a "
                f"multiple of {STEP}"
            )

    @property
    def tiled(self) -> bool:
        """Whether pictures are examined in tiles."""
        return self.fit == TILE

    def tiles(self, height: int, width: int) -> Tiles:
        """The tiles of a resized picture of this height and width, without those outside of the region of interest.

        Raises:
            UserError: the picture is so small that nothing of the region is left.
        """
        found = Tiles.over((height, width), self.size, self.overlap, self.inside(height, width))
        if not len(found):
            raise UserError(f"--roi: nothing of it is left in a picture of {width} x {height} pixels: it is too small")
        return found

    def parts(self, crop: np.ndarray) -> Iterator[np.ndarray]:
        """Return the program's inputs for a cropped picture: itself, or its tiles; uint8 RGB [*size, 3] each."""
        return self.tiles(*crop.shape[:2]).cut(crop) if self.tiled else iter([crop])

    def join(self, maps: Iterable[np.ndarray], height: int, width: int) -> np.ndarray:
        """Return the map [height, width] of a picture from those of its `parts`, which are taken one at a time.

        `height` and `width` are those of the cropped picture. Without tiles, the program has set the map to 0 outside
        of the region of interest.
        """
        if not self.tiled:
            return next(iter(maps))
        stitched, inside = self.tiles(height, width).stitch(maps), self.inside(height, width)
        return stitched if inside is None else stitched * inside

    @cached_property
    def region(self) -> np.ndarray | None:
        """The region of interest, bool [height, width] of the input or `roi_size`; None if all pixels are inside."""
        if self.roi is None:
            return None
        return np.repeat(np.arange(len(self.roi)) % 2 == 1, self.roi).reshape(self.roi_size or self.size)

    def inside(self, height: int, width: int) -> np.ndarray | None:
        """The region of interest in a cropped picture of this height and width, bool; None if all pixels are inside.

        Pictures in tiles may have another size than `roi_size`. They get the region in proportion.
        """
        if self.region is None or self.region.shape == (height, width):
            return self.region
        return cv2.resize(self.region.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0

    def within(self, mask: np.ndarray) -> Preprocess:
        """Return a copy with a region of interest. `mask` is bool [height, width] of a picture, True inside.

        A pixel of the input, or of the resized picture if it is tiled, is inside if all pixels of the picture that
        contribute to it are.

        Raises:
            UserError: no pixel of the input is inside.
        """
        whole = self.resized(np.where(mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2))
        seen = self.crop((whole[..., 0] == 255) & self.resized_mask(mask))
        inside = seen.ravel()
        if not inside.any():
            raise UserError("--roi: nothing of it is in the part of the picture that is examined")
        changes = np.flatnonzero(np.diff(np.concatenate([[False], inside]))).tolist()
        runs = tuple(np.diff([0, *changes, len(inside)]).tolist())
        return replace(self, roi=runs, roi_size=seen.shape if self.tiled else None)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the program's input."""
        return height_width(self.crop_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain json types, for `from_dict`."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The inverse of `to_dict`."""
        mean, std = tuple(values["mean"]), tuple(values["std"])
        limits, *roi = (tuple(values[name]) if name in values else None for name in ("value_range", "roi", "roi_size"))
        size, fit, overlap = values["crop_size"], values["fit"], values.get("overlap")
        return cls(values.get("resize"), size, fit, mean, std, limits, overlap, *roi)

    def resized(self, picture: Picture) -> np.ndarray:
        """Read and resize a picture, a path or uint8 RGB array [height, width, 3]: uint8 RGB [*resized_shape, 3].

        Raises:
            UserError: it cannot be read, is not such an array, or its long side is over LONGEST times the short one.
        """
        return self.resized_with_shape(picture)[0]

    def resized_with_shape(self, picture: Picture) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the result of `resized`, and the picture's height and width before resizing."""
        if not isinstance(picture, np.ndarray):
            decoded = decode_bgr(picture, self.value_range)
            self._check_sides(decoded, f"picture {picture}")
            # Resizing treats all channels alike, so they are swapped afterwards, in the smaller picture.
            return cv2.cvtColor(self._smaller(decoded), cv2.COLOR_BGR2RGB), decoded.shape[:2]
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
            raise UserError(f"a picture array must be uint8 [height, width, 3], got {picture.dtype} {picture.shape}")
        self._check_sides(picture, "a picture array")
        return self._smaller(picture), picture.shape[:2]

    def _check_sides(self, picture: np.ndarray, name: str) -> None:
        height, width = picture.shape[:2]
        if not self.tiled and max(height, width) > LONGEST * min(height, width):
            raise UserError(
                f"{name} is {width} x {height} pixels: no side may be over {LONGEST} times the other; cut it, or train "
                "with --tile"
            )

    def _smaller(self, picture: np.ndarray) -> np.ndarray:
        height, width = self._scaled_shape(*picture.shape[:2])
        if height * width > most_pixels():
            raise UserError(
                f"a picture of {picture.shape[1]} x {picture.shape[0]} pixels would become {width} x {height}: "
                "give a smaller --resize"
            )
        small = picture if (height, width) == picture.shape[:2] else resize(picture, height, width)
        return self._padded(small, cv2.BORDER_REPLICATE)

    def _padded(self, small: np.ndarray, border: int) -> np.ndarray:
        if self.fit != "pad":
            return small
        top, left = self._border(*small.shape[:2])
        bottom, right = self.size[0] - small.shape[0] - top, self.size[1] - small.shape[1] - left
        return cv2.copyMakeBorder(small, top, bottom, left, right, border)

    def _border(self, height: int, width: int) -> tuple[int, int]:
        """Pixels that are padded above and to the left of a picture that was resized to this height and width."""
        return (self.size[0] - height) // 2, (self.size[1] - width) // 2

    def resized_mask(self, mask: np.ndarray) -> np.ndarray:
        """Resize a mask [height, width] (0 good, else defect) like its picture, by nearest neighbour: bool."""
        height, width = self._scaled_shape(*mask.shape)
        small = cv2.resize((mask > 0).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return self._padded(small, cv2.BORDER_CONSTANT) > 0

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result of `resized`, for a picture of this height and width."""
        return self.size if self.fit == "pad" else self._scaled_shape(height, width)

    def _scaled_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture of this size after resizing, without padding."""
        if self.fit == "stretch":
            return self.size
        if self.fit == "pad":
            scale = min(self.size[0] / height, self.size[1] / width)
            return min(self.size[0], max(1, round(height * scale))), min(self.size[1], max(1, round(width * scale)))
        if self.tiled:
            scale = 1.0 if self.resize is None else self.resize / min(height, width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        scale = max(self.resize / min(height, width), self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the examined part of a resized picture: its centre, or all if tiled."""
        if self.tiled:
            return 0, 0, height, width
        return (height - self.size[0]) // 2, (width - self.size[1]) // 2, *self.size

    def map_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map of a picture of this height and width."""
        return self._scaled_shape(height, width) if self.tiled else self.size

    def to_picture(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """Convert points, float [n, 2] of x and y, from a map to a picture of this height and width.

        Coordinates are whole numbers at pixel edges: the map's left edge is 0. Points in the padding are moved to the
        picture's border.
        """
        scaled = self._scaled_shape(height, width)
        # offset of the centre crop, or the negative width of the padding
        top, left = (-edge for edge in self._border(*scaled)) if self.fit == "pad" else self.window(*scaled)[:2]
        whole = (points + (left, top)) * (width / scaled[1], height / scaled[0])
        return np.clip(whole, 0, (width, height))

    def crop(self, resized: np.ndarray) -> np.ndarray:
        """Return the part of a resized picture or mask that is examined, see `window`.

        Outside of the region of interest, a picture has the colour BLANK, and a mask is 0.
        """
        top, left, height, width = self.window(*resized.shape[:2])
        seen = resized[top : top + height, left : left + width]
        inside = self.inside(height, width)
        if inside is None:
            return seen
        if seen.ndim == 2:
            return seen * inside
        return np.where(inside[..., None], seen, np.array(BLANK, np.uint8))

    def normalise(self, crops: np.ndarray) -> np.ndarray:
        """Convert uint8 RGB [batch, *size, 3] to the program's input: float32 [batch, 3, *size]."""
        scale, shift = self.scale_and_shift()
        output = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
        for channel in range(3):
            np.multiply(crops[..., channel], scale[channel], out=output[:, channel])
            output[:, channel] += shift[channel]
        return output

    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and shift, float32 [3] each: a value 0-255 of channel c becomes value * scale[c] + shift[c]."""
        scale = (1.0 / (255.0 * np.asarray(self.std))).astype(np.float32)
        return scale, (-np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
