"""Upsampling and smoothing as matrix products.

Both are linear and act on rows and columns separately, so a [height, width] map M becomes R M C^T. They are computed as
two rank-2 products, because with oneDNN Paddle Inference has faults in other operators: `interpolate` crashes on json
programs, and rank-4 matmul gives wrong results without an error (Paddle 3.3.1).
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn
from scipy.ndimage import gaussian_filter1d

from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess


def bilinear_matrix(size_out: int, size_in: int) -> np.ndarray:
    """Matrix of linear interpolation with half-pixel centres (`align_corners=False`), float32 [size_out, size_in]."""
    position = np.clip((np.arange(size_out) + 0.5) * size_in / size_out - 0.5, 0, size_in - 1)
    left = np.minimum(position.astype(int), size_in - 1)
    right = np.minimum(left + 1, size_in - 1)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out), left), 1 - (position - left))
    np.add.at(matrix, (np.arange(size_out), right), position - left)
    return matrix.astype(np.float32)


def nearest_matrix(size_out: int, size_in: int) -> np.ndarray:
    """Matrix of nearest-neighbour resampling, float32 [size_out, size_in] of zeros and ones.

    Output i is input floor(i * size_in / size_out).
    """
    matrix = np.zeros((size_out, size_in), np.float32)
    matrix[np.arange(size_out), np.arange(size_out) * size_in // size_out] = 1
    return matrix


def strided_matrix(size: int, stride: int) -> np.ndarray:
    """Matrix of linear interpolation from every `stride`-th position to all `size` positions, float32 [size, given].

    Positions after the last given one get its value.
    """
    given = np.arange(0, size, stride)
    columns = [np.interp(np.arange(size), given, row) for row in np.eye(len(given))]
    return np.stack(columns, axis=1).astype(np.float32)


def gaussian_matrix(size: int, sigma: float, truncate: float = 4.0, option: str = "sigma") -> np.ndarray:
    """Matrix of a Gaussian filter, float32 [size, size].

    It equals `scipy.ndimage.gaussian_filter1d` with its default border (reflect); the filter ends at `truncate` times
    `sigma`. `option` is the option that `sigma` comes from.

    Raises:
        UserError: `sigma` is not from 0 to `size`.
    """
    if not 0 <= sigma <= size:
        raise UserError(f"--{option} {sigma:g} must be from 0 to {size}, the size of what it smooths")
    if sigma == 0:
        return np.eye(size, dtype=np.float32)
    return gaussian_filter1d(np.eye(size), sigma, axis=0, truncate=truncate).astype(np.float32)


class Resample(nn.Layer):
    """Resamples [n, h, w] to [n, H, W] with fixed row and column matrices."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """`rows` is [H, h] and `columns` is [W, w], float32."""
        super().__init__()
        self.height_out, self.height_in = rows.shape
        self.width_out, self.width_in = columns.shape
        self.register_buffer("rows", paddle.to_tensor(np.ascontiguousarray(rows.T)), persistable=False)
        self.register_buffer("columns", paddle.to_tensor(np.ascontiguousarray(columns.T)), persistable=False)

    def forward(self, maps: paddle.Tensor) -> paddle.Tensor:
        """Resample float32 [n, h, w] to [n, H, W]."""
        wide = paddle.matmul(maps.reshape([-1, self.width_in]), self.columns)
        wide = wide.reshape([-1, self.height_in, self.width_out]).transpose([0, 2, 1])
        full = paddle.matmul(wide.reshape([-1, self.height_in]), self.rows)
        return full.reshape([-1, self.width_out, self.height_out]).transpose([0, 2, 1])


class WithinRegion(nn.Layer):
    """Upsampling of a map to pixels, which sets it to 0 outside of the region of interest, bool [height, width]."""

    def __init__(self, upsampling: Resample, inside: np.ndarray) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.register_buffer("inside", paddle.to_tensor(inside[None].astype(np.float32)), persistable=False)

    def forward(self, coarse: paddle.Tensor) -> paddle.Tensor:
        """Upsample [batch, rows, columns] to [batch, height, width]; 0 outside of the region."""
        return self.upsampling(coarse) * self.inside


def to_pixels(preprocess: Preprocess, grid: tuple[int, int], sigma: float, stride: int = 1) -> Resample | WithinRegion:
    """Upsampling (see `upsample`) from a grid of patches to the input's pixels; 0 outside of the region of interest.

    With tiles, it is `Preprocess.join` that sets the map of the whole picture to 0 there.
    """
    upsampling = upsample(preprocess.size, grid, sigma, stride)
    region = None if preprocess.tiled else preprocess.region
    return upsampling if region is None else WithinRegion(upsampling, region)


def upsample(
    size_out: tuple[int, int], size_in: tuple[int, int], sigma: float = 0.0, stride: int = 1, stride_out: int = 1
) -> Resample:
    """Bilinear upsampling and, when `sigma` > 0, a Gaussian of `sigma` output pixels, as one Resample.

    The input has only every `stride`-th row and column of `size_in`; the output has only every `stride_out`-th of
    `size_out`.
    """
    rows, columns = (
        (gaussian_matrix(out, sigma) @ bilinear_matrix(out, into) @ strided_matrix(into, stride))[::stride_out]
        for out, into in zip(size_out, size_in)
    )
    return Resample(rows, columns)
