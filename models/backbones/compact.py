"""The embedded backbone: a small network that predicts ResNet-18's features (trained by `train_compact.py`).

It has dense convolutions with few channels, which are fastest on CPUs: depthwise convolutions need a tenth of the
arithmetic but take as long. A network this small spends much of its time on starting operations, so it has few of them.
A convolution, its normalisation, the sum of a residual block and the activation become one operation when compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import paddle
from paddle import nn

CHANNELS = (40, 64, 64)
"""Output channels of layer1 (stride 4), layer2 (stride 8) and layer3 (stride 16)."""
WIDTHS = (32, 64, 112)
"""Channels inside the network at strides 4, 8 and 16."""
EMBEDDED = Path(__file__).with_name("compact.safetensors")
"""File with the weights, which is part of the repository."""


def convolution(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and normalisation, without an activation."""
    return nn.Sequential(nn.Conv2D(inside, outside, 3, stride, 1, bias_attr=False), nn.BatchNorm2D(outside))


class Residual(nn.Layer):
    """relu(x + f(x)), f a normalised 3x3 convolution: one fused operation when compiled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = convolution(channels, channels)
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Compute [batch, channels, height, width] from an input of the same shape."""
        return self.relu(x + self.branch(x))


class Compact(nn.Layer):
    """Three stages with a linear head each; the heads are called layer1, layer2 and layer3, like a ResNet's stages.

    Args:
        channels: output channels of the three heads.
    """

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        at4, at8, at16 = WIDTHS
        self.stage1 = nn.Sequential(
            *(convolution(3, 16, 2), nn.ReLU(), convolution(16, at4, 2), nn.ReLU()),
            Residual(at4),
        )
        self.layer1 = nn.Conv2D(at4, channels[0], 1)
        self.stage2 = nn.Sequential(
            *(convolution(at4, at8, 2), nn.ReLU()),
            *(Residual(at8) for _ in range(2)),
        )
        self.layer2 = nn.Conv2D(at8, channels[1], 1)
        self.stage3 = nn.Sequential(
            *(convolution(at8, at16, 2), nn.ReLU()),
            *(Residual(at16) for _ in range(3)),
        )
        self.layer3 = nn.Conv2D(at16, channels[2], 1)

    def forward(self, image: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        """Compute the three heads' [batch, channels, h, w] from normalised float32 [batch, 3, height, width]."""
        x = self.stage1(image)
        first = self.layer1(x)
        x = self.stage2(x)
        second = self.layer2(x)
        return first, second, self.layer3(self.stage3(x))
