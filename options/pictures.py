"""What the options mean for how a picture becomes the program's input."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable

import numpy as np

from deploy.command_line.parser import Arguments
from deploy.errors import UserError
from deploy.pictures.decode import decode_deep, decode_mask, has_16_bits
from deploy.pictures.preprocess import TILE, Preprocess, Size, height_width
from models.presets import PAPER, Preset, preset

from .arguments import OVERLAP

FAR_FROM_SQUARE = 1.15
"""Pictures that are so many times as long as wide are not cropped, and shapes that spread by as much are mixed."""
STEP = 32
"""A whole picture's sides are multiples of this, as every backbone's stride."""
LOOKED_AT = 16
"""Pictures whose shape and values are looked at."""
HEADROOM = 0.1
"""Of the values' range, kept free below and above, since a defect may be darker or brighter than good pictures are."""


def preprocess(args: Arguments, found: Preset, pictures: Sequence[Path], log: Callable[[str], None]) -> Preprocess:
    """From --resize, --crop_size, --fit, --tile, --overlap, --range and --roi, or the preset's.

    Where none of the first three is given and the training pictures are far from square, all of each is seen: stretched
    to a rectangle of their median shape, or a square where shapes are mixed, with as many pixels as the preset's. The
    preset `paper` always crops.

    Where --range is not given and training pictures have 16 bits, it is that of their values, and HEADROOM more.
    """
    size, given = crop_size(args), found.preprocess
    if args.tile is not None:
        if size is not None or args.fit is not None:
            raise UserError("--tile is the program's input, and all of a picture is seen: leave out --crop_size, --fit")
        chosen = Preprocess(args.resize, args.tile, TILE, overlap=OVERLAP if args.overlap is None else args.overlap)
    elif args.overlap is not None:
        raise UserError(f"--overlap {args.overlap} is how much tiles share: give it with --tile")
    elif any(getattr(args, name) is not None for name in ("resize", "crop_size", "fit")):
        chosen = Preprocess(args.resize or given.resize, size or given.crop_size, args.fit or given.fit)
    else:
        chosen = preset_preprocess(args.method, found, pictures)
        if chosen != given:
            height, width = chosen.size
            log(f"pictures are far from square: all of each is seen, stretched to {height} x {width} pixels")
    limits = tuple(args.range) if args.range is not None else value_range(pictures)
    if limits is not None:
        chosen = replace(chosen, value_range=limits)
        log(f"16-bit values from {limits[0]} to {limits[1]} become 0 to 255 (--range)")
    if args.roi is not None:
        chosen = chosen.within(region(args.roi, pictures[0]))
        log(f"region of interest: {chosen.inside.mean():.2%} of what is examined")
    return chosen


def region(told: str, picture: Path) -> np.ndarray:
    """The region of interest that --roi names, bool [height, width] of the picture.

    Raises:
        UserError: neither a mask of the picture's size nor a box in it.
    """
    height, width = decode_deep(picture).shape[:2]
    if Path(told).is_file():
        mask = decode_mask(told)
        if mask.shape != (height, width):
            raise UserError(
                f"--roi {told} is {mask.shape[1]} x {mask.shape[0]} pixels, {picture} {width} x {height}: "
                "give a mask of the pictures' size"
            )
        return mask
    try:
        left, top, across, down = (int(word) for word in told.split(","))
    except ValueError as error:
        raise UserError(f"--roi {told}: no mask file, and no box X,Y,WIDTH,HEIGHT in pixels") from error
    if min(left, top) < 0 or min(across, down) < 1 or left + across > width or top + down > height:
        raise UserError(f"--roi {told}: the box does not lie in {picture} with its {width} x {height} pixels")
    mask = np.zeros((height, width), bool)
    mask[top : top + down, left : left + across] = True
    return mask


def value_range(pictures: Sequence[Path]) -> tuple[int, int] | None:
    """The smallest and largest 16-bit values of some pictures, with HEADROOM; None where none has 16 bits."""
    found = []
    for path in filter(has_16_bits, _some(pictures)):
        with contextlib.suppress(UserError):
            deep = decode_deep(path)
            found.append((int(deep.min()), int(deep.max())))
    if not found:
        return None
    low, high = min(low for low, _ in found), max(high for _, high in found)
    more = HEADROOM * max(high - low, 1)
    return max(0, math.floor(low - more)), min(65535, math.ceil(high + more))


def _some(pictures: Sequence[Path]) -> Sequence[Path]:
    return pictures[:: max(1, len(pictures) // LOOKED_AT)]


def preset_preprocess(method: str, found: Preset, pictures: Sequence[Path]) -> Preprocess:
    """The preset's, or for pictures that are far from square and any preset but `paper`, all of each picture."""
    given = found.preprocess
    whole = None if found is preset(method, PAPER) else whole_picture(pictures, found.whole or given.size)
    return given if whole is None else Preprocess(given.resize, whole, "stretch")


def whole_picture(pictures: Sequence[Path], size: Size) -> tuple[int, int] | None:
    """Height and width for pictures of this median shape, multiples of STEP; None where they are about square.

    They have about as many pixels as `size`. Where their shapes are mixed, it is a square: a rectangle that suits the
    tall ones leaves wide ones a third of their width.
    """
    shapes = []
    for path in _some(pictures):
        with contextlib.suppress(UserError):  # a picture that cannot be read is told about when it is its turn
            shapes.append(decode_deep(path).shape[:2])
    logs = np.log([height / width for height, width in shapes or [(1, 1)]])
    far = math.log(FAR_FROM_SQUARE)
    if np.abs(logs).mean() < far:
        return None
    root = math.exp((0 if logs.std() > far else float(np.median(logs))) / 2)
    side = math.prod(height_width(size)) ** 0.5
    height, width = (max(1, round(side * part / STEP)) * STEP for part in (root, 1 / root))
    return height, width


def crop_size(args: Arguments) -> Size | None:
    """One number, or height and width; UserError for more."""
    found = [args.crop_size] if isinstance(args.crop_size, int) else args.crop_size
    if found is not None and len(found) > 2:
        raise UserError(f"--crop_size {' '.join(map(str, found))}: give one number, or height and width")
    return None if found is None else found[0] if found[0] == found[-1] else (found[0], found[1])
