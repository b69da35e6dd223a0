"""A method's two graphs, compiled: pictures to features, and pictures to map and score."""

from __future__ import annotations

from pathlib import Path

import paddle
from paddle import nn
from paddle.static import InputSpec

from deploy.files import scratch_folder
from deploy.program import Program, Runtime, save_program


class Embedding(nn.Layer):
    """The part of a method that fitting needs: image to features."""

    def __init__(self, method: nn.Layer) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """float32 [batch, 3, height, width] to [batch * positions, channels]."""
        return self.method.embed(image)


class Scoring(nn.Layer):
    """The whole method, with its statistics as inputs, so that one program serves every category."""

    def __init__(self, method: nn.Layer) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: paddle.Tensor, statistics: list[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """float32 [batch, 3, height, width] to map [batch, height, width] and score [batch]."""
        return self.method.score(image, *statistics)


def image_spec(size: int) -> InputSpec:
    """The program input `image`, any batch size."""
    return InputSpec([None, 3, size, size], "float32", "image")


def save_scoring(method: nn.Layer, folder: str | Path) -> tuple[Path, Path]:
    """Write the scoring program of a fitted `method`; returns its graph and parameter files."""
    specs = [statistic_spec(name, value) for name, value in method.statistics().items()]
    return save_program(Scoring(method), [image_spec(method.preprocess.crop_size), specs], folder)


def compile_scoring(method: nn.Layer, runtime: Runtime) -> Program:
    """The scoring program of a fitted `method`, ready to run."""
    with scratch_folder() as folder:
        return Program(*save_scoring(method, folder), runtime)


def compile_embedding(method: nn.Layer, runtime: Runtime) -> Program:
    """The feature program of `method`, ready to run."""
    with scratch_folder() as folder:
        files = save_program(Embedding(method), [image_spec(method.preprocess.crop_size)], folder)
        return Program(*files, runtime)


def statistic_spec(name: str, value: paddle.Tensor) -> InputSpec:
    """The program input for one statistic: its row count is free, the other dimensions are the method's."""
    return InputSpec([None, *value.shape[1:]], str(value.dtype).replace("paddle.", ""), name)
