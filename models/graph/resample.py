"""Upsampling and smoothing as matrix products.

Both are linear and act on rows and columns separately, so a [height, width] map M becomes R M C^T. Written as two
rank-2 products they are safe where Paddle Inference's own operators are not: with oneDNN, `interpolate` crashes on
json programs and rank-4 matmul is silently wrong (Paddle 3.3.1).
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn
from scipy.ndimage import gaussian_filter1d

from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess


def bilinear_matrix(size_out: int, size_in: int) -> np.ndarray:
    """float32 [size_out, size_in]: bilinear interpolation with half-pixel centres (`align_corners=False`)."""
    position = np.clip((np.arange(size_out) + 0.5) * size_in / size_out - 0.5, 0, size_in - 1)
    left = np.minimum(position.astype(int), size_in - 1)
    right = np.minimum(left + 1, size_in - 1)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out), left), 1 - (position - left))
    np.add.at(matrix, (np.arange(size_out), right), position - left)
    return matrix.astype(np.float32)


def nearest_matrix(size_out: int, size_in: int) -> np.ndarray:
    """float32 [size_out, size_in] of zeros and ones: nearest neighbour, `floor(position * size_in / size_out)`."""
    matrix = np.zeros((size_out, size_in), np.float32)
    matrix[np.arange(size_out), np.arange(size_out) * size_in // size_out] = 1
    return matrix


def strided_matrix(size: int, stride: int) -> np.ndarray:
    """float32 [size, given]: all of `size` positions from every `stride`-th, linearly; its value after the last one."""
    given = np.arange(0, size, stride)
    columns = [np.interp(np.arange(size), given, row) for row in np.eye(len(given))]
    return np.stack(columns, axis=1).astype(np.float32)


def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """float32 [size, size]: `scipy.ndimage.gaussian_filter1d` with its default border (reflect) and truncation (4)."""
    if not 0 <= sigma <= size:
        raise UserError(f"--sigma {sigma:g} must be from 0 to the map's {size} pixels")
    if sigma == 0:
        return np.eye(size, dtype=np.float32)
    return gaussian_filter1d(np.eye(size), sigma, axis=0).astype(np.float32)


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
        """float32 [n, h, w] to [n, H, W]."""
        wide = paddle.matmul(maps.reshape([-1, self.width_in]), self.columns)
        wide = wide.reshape([-1, self.height_in, self.width_out]).transpose([0, 2, 1])
        full = paddle.matmul(wide.reshape([-1, self.height_in]), self.rows)
        return full.reshape([-1, self.width_out, self.height_out]).transpose([0, 2, 1])


class WithinRegion(nn.Layer):
    """A map in pixels that is 0 outside of the region of interest, bool [height, width]."""

    def __init__(self, upsampling: Resample, inside: np.ndarray) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.register_buffer("inside", paddle.to_tensor(inside[None].astype(np.float32)), persistable=False)

    def forward(self, coarse: paddle.Tensor) -> paddle.Tensor:
        """Upsample [batch, rows, columns] to [batch, height, width]."""
        return self.upsampling(coarse) * self.inside


def to_pixels(preprocess: Preprocess, grid: tuple[int, int], sigma: float, stride: int = 1) -> Resample | WithinRegion:
    """`upsample` from a grid of patches to the pixels of the input, of which the region of interest is kept."""
    upsampling = upsample(preprocess.size, grid, sigma, stride)
    return upsampling if preprocess.inside is None else WithinRegion(upsampling, preprocess.inside)


def upsample(
    size_out: tuple[int, int], size_in: tuple[int, int], sigma: float = 0.0, stride: int = 1, stride_out: int = 1
) -> Resample:
    """Bilinear upsampling followed, when `sigma` > 0, by a Gaussian of `sigma` output pixels, as one Resample.

    Only every `stride`-th row and column of `size_in` is given, only every `stride_out`-th of `size_out` is wanted.
    """
    rows, columns = (
        (gaussian_matrix(out, sigma) @ bilinear_matrix(out, into) @ strided_matrix(into, stride))[::stride_out]
        for out, into in zip(size_out, size_in)
    )
    return Resample(rows, columns)
