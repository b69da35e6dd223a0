"""Compile the graphs of a method: image to features, and image or features to map and score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
from paddle import nn
from paddle.static import InputSpec

from deploy.pictures.preprocess import Size, height_width
from deploy.runtime.program import Program, Runtime, save_program
from deploy.storage.files import scratch_folder


@paddle.jit.not_to_static
def plainly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function while a program is traced, without Paddle's rewriting of its source.

    Paddle rewrites the source of every function it calls, to support control flow that depends on tensors. Methods and
    backbones have none, and the rewriting would take most of the time of tracing.
    """
    return function(*arguments)


class Embedding(nn.Layer):
    """The graph of a method from image to features, for fitting."""

    def __init__(self, method: nn.Layer) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """float32 [batch, 3, height, width] to [batch * positions, channels]."""
        return plainly(self.method.embed, image)


class Scoring(nn.Layer):
    """The graph from image to map and score, with the statistics as inputs: one program serves every category."""

    def __init__(self, method: nn.Layer, uint8: bool = False) -> None:
        super().__init__()
        self.method, self.uint8 = method, uint8
        scale, shift = method.preprocess.scale_and_shift()
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, paddle.to_tensor(values.reshape(1, 3, 1, 1)))

    def input_to_image(self, image: paddle.Tensor) -> paddle.Tensor:
        """Convert the program's input, uint8 or float32, to the normalised float32 image."""
        if not self.uint8:
            return image
        return image.astype("float32").transpose([0, 3, 1, 2]) * self.scale + self.shift

    def forward(self, image: paddle.Tensor, statistics: list[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score an input of `image_spec`: map [batch, height, width] and score [batch]."""
        return plainly(self.method.score, plainly(self.input_to_image, image), *statistics)


class FeatureScoring(nn.Layer):
    """The graph from features to map and score, for pictures whose features are already computed."""

    def __init__(self, method: nn.Layer) -> None:
        super().__init__()
        self.method = method

    def forward(self, features: paddle.Tensor, statistics: list[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score features that `Embedding` computed: map [batch, height, width] and score [batch]."""
        return plainly(self.method.score_features, features, *statistics)


class Fused(Scoring):
    """The graph from image to map and score, with the statistics as constants: the image is the only input."""

    def forward(self, image: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score an input of `image_spec`: map [batch, height, width] and score [batch]."""
        return plainly(self.method, plainly(self.input_to_image, image))


def image_spec(size: Size, uint8: bool = False) -> InputSpec:
    """Describe the program input `image`: float32 [batch, 3, height, width], or uint8 [batch, height, width, 3]."""
    both = height_width(size)
    shape, kind = ([None, *both, 3], "uint8") if uint8 else ([None, 3, *both], "float32")
    return InputSpec(shape, kind, "image")


def save_scoring(method: nn.Layer, folder: str | Path, fused: bool = False, uint8: bool = False) -> tuple[Path, Path]:
    """Write the scoring program of a fitted `method`; returns its graph and parameter files."""
    image = image_spec(method.preprocess.size, uint8)
    if fused:
        return save_program(Fused(method, uint8), [image], folder)
    return save_program(Scoring(method, uint8), [image, statistic_specs(method)], folder)


def compile_scoring(method: nn.Layer, runtime: Runtime) -> Program:
    """Compile and load the scoring program of a fitted `method`."""
    with scratch_folder() as folder:
        return Program(*save_scoring(method, folder), runtime)


def compile_embedding(method: nn.Layer, runtime: Runtime) -> Program:
    """Compile and load the feature program of `method`."""
    with scratch_folder() as folder:
        files = save_program(Embedding(method), [image_spec(method.preprocess.size)], folder)
        return Program(*files, runtime)


def compile_feature_scoring(method: nn.Layer, runtime: Runtime) -> Program:
    """Compile and load the program of a fitted `method` whose inputs are `features` and the statistics."""
    features = InputSpec([None, method.channels], "float32", "features")
    with scratch_folder() as folder:
        return Program(*save_program(FeatureScoring(method), [features, statistic_specs(method)], folder), runtime)


def statistic_specs(method: nn.Layer) -> list[InputSpec]:
    """Describe the program inputs of a fitted method's statistics."""
    free = method.free_dimensions()
    return [statistic_spec(name, value, free.get(name, (0,))) for name, value in method.statistics().items()]


def statistic_spec(name: str, value: paddle.Tensor, free: tuple[int, ...]) -> InputSpec:
    """Describe the program input of one statistic; dimensions in `free` may have any size."""
    shape = [None if dimension in free else size for dimension, size in enumerate(value.shape)]
    return InputSpec(shape, str(value.dtype).replace("paddle.", ""), name)
