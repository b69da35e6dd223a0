"""Frozen backbones, from `paddle.vision.models` or `compact`, that return the outputs of named layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.nn import initializer

from deploy.errors import UserError
from deploy.pictures.preprocess import Size, height_width
from deploy.storage.tensors import fingerprint

from .compact import Compact
from .folding import ConvolutionPairs, fold_batch_norm
from .weights import find_weights

OWN_NETWORKS = {"compact": Compact}
"""Networks that are not in `paddle.vision.models`."""
ARCHS = (
    *OWN_NETWORKS,
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext50_64x4d", "resnext101_32x4d", "resnext101_64x4d"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("vgg16", "vgg19"),
    *("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "shufflenet_v2_x1_0"),
)
STAGES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
"""Layer names that work for every backbone: the last outermost layer with this stride. A ResNet has layers of these
names itself."""
DEEPEST = {"compact": "layer3"}
"""For networks without layer4, the last of STAGES that they have."""


class Feature(NamedTuple):
    """Shape of the output of one layer for one picture."""

    channels: int
    height: int
    width: int


class MissingLayer(UserError):
    """The network has no such layer, or the weights lack parameters that the layer needs."""


@contextmanager
def _zeros() -> Iterator[None]:
    """While this is open, layers are initialised with zeros.

    Random weights, which would be replaced at once, take seconds to draw for a wide ResNet.
    """
    initializer.set_global_initializer(initializer.Constant(0.0), initializer.Constant(0.0))
    try:
        yield
    finally:
        initializer.set_global_initializer(None)


class _KeepOutput:
    """A forward hook that puts a layer's output into a dict."""

    def __init__(self, outputs: dict[str, paddle.Tensor], name: str) -> None:
        self.outputs, self.name = outputs, name

    def __call__(self, layer: nn.Layer, inputs: Any, output: paddle.Tensor) -> None:
        self.outputs[self.name] = output


class _Visit(NamedTuple):
    """A sublayer, recorded at the end of its forward in the trial run."""

    name: str
    shape: tuple[int, ...]
    """Shape of its output."""
    read: frozenset[str]
    """Names of the parameters of all sublayers entered until then: its output depends on no others."""


class Backbone(nn.Layer):
    """A frozen network whose forward returns the outputs of `layers`, in that order.

    Args:
        arch: one of `ARCHS`.
        layers: names of sublayers, or of `STAGES`, e.g. `("layer2", "layer3")`.
        size: height and width of the pictures, or one number for both.
        weights: see `find_weights`.
        seed: for random weights.

    Raises:
        UserError: unknown arch or layer, no weights, or weights without a parameter that `layers` need.
    """

    def __init__(
        self, arch: str, layers: Sequence[str], size: Size, weights: str | Path | None = None, seed: int = 521
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise UserError(f"--arch {arch} is unknown: choose one of {', '.join(ARCHS)}")
        found = find_weights(arch, weights)
        paddle.seed(seed)
        self.arch, self.layers, self.source = arch, tuple(layers), found.source
        with _zeros() if found.arrays is not None else nullcontext():
            # no classifier: that of a VGG has nine tenths of its parameters
            make = OWN_NETWORKS.get(arch) or partial(getattr(paddle.vision.models, arch), num_classes=0)
            self.net = make()
        self.net.eval()
        for parameter in self.net.parameters():
            parameter.stop_gradient = True
        height, width = height_width(size)
        visits, pairs = self._explore(height, width)
        names = [self._resolve(layer, visits, height) for layer in self.layers]
        taken = [next(visit for visit in visits if visit.name == name) for name in names]
        self.features = [Feature(*visit.shape[1:]) for visit in taken]
        self._read = sorted(max((visit.read for visit in taken), key=len))
        if found.arrays is not None:
            order = sorted(zip(taken, self.layers), key=lambda pair: -len(pair[0].read))
            self._load(found.arrays, {name: layer for visit, layer in order for name in visit.read})
        state = self.net.state_dict()
        self._arrays = {name: state[name].numpy() for name in self._read}
        self.sha256 = fingerprint(self._arrays)
        self._outputs: dict[str, paddle.Tensor] = {}
        sublayers = dict(self.net.named_sublayers())
        outputs = [sublayers[name] for name in names]
        fold_batch_norm(self.net, [pair for pair in pairs if not any(pair[0] is layer for layer in outputs)])
        sublayers = dict(self.net.named_sublayers())
        for layer, name in zip(self.layers, names):
            sublayers[name].register_forward_post_hook(_KeepOutput(self._outputs, layer))

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        """Compute one [batch, channels, h, w] per layer from normalised float32 [batch, 3, height, width]."""
        self.net(image)
        return [self._outputs[name] for name in self.layers]

    def feature_of(self, grid: str | None) -> Feature:
        """Return the shape of the output of the layer that the option `grid` names; of the first layer if it is None.

        UserError if it is none of `layers`.
        """
        if grid not in (None, *self.layers):
            raise UserError(f"--grid {grid} is none of the layers read: {' '.join(self.layers)}")
        return self.features[self.layers.index(grid) if grid else 0]

    @property
    def file(self) -> str:
        """Name of the backbone's file in a run folder."""
        return f"{self.arch}-{self.sha256[:12]}.safetensors"

    def config(self) -> dict[str, str]:
        """Return the backbone's part of a model's header."""
        return {"file": self.file, "sha256": self.sha256, "source": Path(self.source).name}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters that `layers` depend on, by name, before batch normalisation is folded; for storage."""
        return self._arrays

    def _explore(self, height: int, width: int) -> tuple[list[_Visit], list[tuple[nn.Conv2D, nn.BatchNorm2D]]]:
        """Run the network once on a blank picture, to see what its sublayers return.

        Returns:
            The sublayers whose output is one feature map, in the order in which their forwards end; and the
            convolutions whose output is normalised, with their batch normalisations.
        """
        pairs = ConvolutionPairs()
        visits: list[_Visit] = []
        entered: set[str] = set()
        known = set(self.net.state_dict())
        hooks = []
        for name, layer in self.net.named_sublayers():
            own = {f"{name}.{key}" for key, _ in layer.named_parameters(include_sublayers=False)}
            own |= {f"{name}.{key}" for key, _ in layer.named_buffers(include_sublayers=False)}

            def before(layer: nn.Layer, inputs: Any, own: frozenset[str] = frozenset(own & known)) -> None:
                entered.update(own)
                pairs.inputs(layer, inputs)

            def after(layer: nn.Layer, inputs: Any, output: Any, name: str = name) -> None:
                if isinstance(output, paddle.Tensor) and output.ndim == 4:
                    visits.append(_Visit(name, tuple(output.shape), frozenset(entered)))
                pairs.output(layer, output)

            hooks += [layer.register_forward_pre_hook(before), layer.register_forward_post_hook(after)]
        with paddle.no_grad():
            self.net(paddle.zeros([1, 3, height, width]))
        for hook in hooks:
            hook.remove()
        return visits, pairs.found

    def _resolve(self, layer: str, visits: list[_Visit], height: int) -> str:
        """Return the name of the sublayer that `layer` means: a sublayer's name, or one of STAGES."""
        if any(visit.name == layer for visit in visits):
            return layer
        if layer in STAGES:
            # the outermost layers, or those one level below, if the network is wrapped in a sequence
            for depth in (0, 1):
                outer = [visit for visit in visits if visit.name.count(".") == depth]
                fitting = [visit.name for visit in outer if -(-height // visit.shape[2]) == STAGES[layer]]
                if fitting:
                    return fitting[-1]
        direct = ", ".join(name for name, _ in self.net.named_children())
        raise MissingLayer(f"--layers {layer}: {self.arch} has no such layer; its outermost ones are {direct}")

    def _load(self, arrays: dict[str, np.ndarray], wanted_by: dict[str, str]) -> None:
        state = self.net.state_dict()
        for name in self._read:
            if name not in arrays:
                raise MissingLayer(
                    f"weights {self.source} lack {name}, which {self.arch} needs for {wanted_by[name]}: "
                    f"they are of another network or incomplete"
                )
            if tuple(arrays[name].shape) != tuple(state[name].shape):
                raise UserError(
                    f"weights {self.source} do not fit {self.arch}: {name} is {tuple(arrays[name].shape)}, "
                    f"not {tuple(state[name].shape)}; give the weights of {self.arch}"
                )
            state[name].set_value(arrays[name].astype(np.float32))
