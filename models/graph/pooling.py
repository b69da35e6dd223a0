"""Patch features: mean over a neighbourhood, or adaptive average pooling as in patchcore-inspection."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from .resample import Resample


def adaptive_matrix(size_out: int, size_in: int) -> np.ndarray:
    """Matrix of 1-D adaptive average pooling, float32 [size_out, size_in].

    Output i is the mean of the inputs from floor(i size_in / size_out) to ceil((i + 1) size_in / size_out), excluded.
    """
    matrix = np.zeros((size_out, size_in), np.float32)
    for row in range(size_out):
        start, stop = row * size_in // size_out, -(-(row + 1) * size_in // size_out)
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


def shrink(size_out: tuple[int, int], size_in: tuple[int, int], stride: int) -> Resample:
    """Averaging to a coarser grid of `size_out`, of which only every `stride`-th row and column is computed."""
    return Resample(*(adaptive_matrix(out, into)[::stride] for out, into in zip(size_out, size_in)))


class PatchPool(nn.Layer):
    """Patch features of one layer's output: one patch around every `stride`-th row and column.

    Without `channels_out`, the features are the mean over `patch` x `patch` positions (`patch` is odd), channel by
    channel (Roth 2021, equation 2, with the average for f_agg). With it, all values of these positions, channel by
    channel and row by row, are pooled adaptively to `channels_out` values (MeanMapper of patchcore-inspection). Both
    are one fixed operator.
    """

    def __init__(self, channels: int, patch: int, stride: int, channels_out: int | None) -> None:
        super().__init__()
        self.patch, self.stride, self.channels = patch, stride, channels_out or channels
        # exclusive=False: at the border the padded zeros are averaged too, as in the authors' unfold and mean
        self.pool = nn.AvgPool2D(patch, stride, patch // 2, exclusive=False)
        if channels_out is not None:
            matrix = adaptive_matrix(channels_out, channels * patch * patch)
            kernel = paddle.to_tensor(matrix.reshape(channels_out, channels, patch, patch))
            self.register_buffer("kernel", kernel, persistable=False)

    def forward(self, output: paddle.Tensor) -> paddle.Tensor:
        """Pool float32 [batch, channels, height, width] to [batch, channels_out, rows, columns]."""
        if hasattr(self, "kernel"):
            return nn.functional.conv2d(output, self.kernel, stride=self.stride, padding=self.patch // 2)
        return self.pool(output)
