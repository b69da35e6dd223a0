"""Resizing with antialiasing as in Pillow and torchvision: a triangle filter whose width grows with the scale.

Rows and columns are resized by a product with a band matrix each (Pillow's coefficients, `Image.BILINEAR`). The product
is computed in blocks, which leave out the zeros outside of the band. Results differ from Pillow's by at most one grey
level, because Pillow rounds between the two products.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

BLOCK = 8  # output rows per product


class Band(NamedTuple):
    """A block of rows of the matrix: outputs from `start` on are `weights` times the inputs from `first` on."""

    start: int
    first: int
    weights: np.ndarray


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 [rows, columns, channels], values 0-255, to uint8 [height, width, channels]."""
    channels = picture.shape[2]
    rows = _one_side(picture.reshape(len(picture), -1), height)
    turned = rows.reshape(height, -1, channels).transpose(1, 0, 2)
    columns = _one_side(np.ascontiguousarray(turned).reshape(len(turned), -1), width)
    rounded = cv2.convertScaleAbs(columns).reshape(width, height, channels)  # rounds halves to even, clips at 255
    return np.ascontiguousarray(rounded.transpose(1, 0, 2))


def _one_side(values: np.ndarray, size: int) -> np.ndarray:
    """Resize [rows, any] to float32 [size, any]."""
    output = np.empty((size, values.shape[1]), np.float32)
    for start, first, weights in bands(len(values), size):
        count, given = weights.shape
        given_rows = values[first : first + given].astype(np.float32, copy=False)  # not all at once, to save memory
        np.matmul(weights, given_rows, out=output[start : start + count])
    return output


@lru_cache(256)
def bands(size_in: int, size_out: int) -> tuple[Band, ...]:
    """Return the weights of every output position, float32, in blocks; each row's sum is 1.

    The centre of output i is (i + 0.5) * scale, where scale is size_in / size_out. An input at distance d from it has
    the weight 1 - d / max(scale, 1), at least 0, before normalisation; the filter does not reach beyond the picture.
    """
    scale = size_in / size_out
    reach = max(scale, 1.0)
    found = []
    for start in range(0, size_out, BLOCK):
        centre = (np.arange(start, min(start + BLOCK, size_out)) + 0.5) * scale
        low = np.maximum((centre - reach + 0.5).astype(int), 0)
        high = np.minimum((centre + reach + 0.5).astype(int), size_in)
        position = np.arange(low[0], high[-1])
        weights = np.maximum(1 - np.abs(position + 0.5 - centre[:, None]) / reach, 0)
        weights[(position < low[:, None]) | (position >= high[:, None])] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        found.append(Band(start, int(low[0]), weights.astype(np.float32)))
    return tuple(found)
