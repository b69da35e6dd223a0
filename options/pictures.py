"""Interpretation of the options for sizes, value range and region of interest."""

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
"""Pictures whose sides have on average at least this ratio are not cropped; shapes that vary by more than this factor
count as mixed."""
STEP = 32
"""The input's sides for whole pictures are multiples of this, which is a multiple of every layer's stride."""
LOOKED_AT = 16
"""Approximate number of training pictures that are examined for shape and values."""
HEADROOM = 0.1
"""Share of the value range that is added below and above: a defect may be darker or brighter than good pictures."""


def preprocess(args: Arguments, found: Preset, pictures: Sequence[Path], log: Callable[[str], None]) -> Preprocess:
    """Return the preprocessing of --resize, --crop_size, --fit, --tile, --overlap, --range and --roi, or the preset's.

    If none of --resize, --crop_size, --fit and --tile is given and the training pictures are far from square, whole
    pictures are used, stretched to a rectangle of their median shape, or to a square if their shapes are mixed. It has
    about as many pixels as the preset's input. The preset `paper` always crops.

    If --range is not given and training pictures have 16 bits, the range is that of their values, plus HEADROOM.
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
        log(f"region of interest: {chosen.region.mean():.2%} of what is examined")
    return chosen


def region(told: str, picture: Path) -> np.ndarray:
    """Return the region of interest of --roi, bool [height, width] of the picture, True inside.

    Raises:
        UserError: --roi is neither a mask of the picture's size nor a box inside the picture.
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
    """Return the smallest and largest 16-bit value of some of the pictures, with HEADROOM; None if none has 16 bits."""
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
    """Return the preset's preprocessing, or, for pictures far from square, one that shows whole pictures.

    The preset `paper` is never changed.
    """
    given = found.preprocess
    whole = None if found is preset(method, PAPER) else whole_picture(pictures, found.whole or given.size)
    return given if whole is None else Preprocess(given.resize, whole, "stretch")


def whole_picture(pictures: Sequence[Path], size: Size) -> tuple[int, int] | None:
    """Return height and width of the input for whole pictures, multiples of STEP; None if they are about square.

    The input has the pictures' median shape and about as many pixels as `size`. It is a square if their shapes are
    mixed: in a rectangle for the tall pictures, wide ones would keep only a third of their width.
    """
    shapes = []
    for path in _some(pictures):
        with contextlib.suppress(UserError):  # a picture that cannot be read is reported later, when it is read
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
    """Return --crop_size as one number, or as height and width, None if not given; UserError for more numbers."""
    found = [args.crop_size] if isinstance(args.crop_size, int) else args.crop_size
    if found is not None and len(found) > 2:
        raise UserError(f"--crop_size {' '.join(map(str, found))}: give one number, or height and width")
    return None if found is None else found[0] if found[0] == found[-1] else (found[0], found[1])
