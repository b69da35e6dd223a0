"""Frozen backbones of `paddle.vision.models`, read at named layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn

from deploy.errors import UserError
from deploy.files import fingerprint

from .weights import find_weights

ARCHS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
)


class Feature(NamedTuple):
    """The output of one layer for one picture."""

    channels: int
    height: int
    width: int


class _Keep:
    """A forward hook that puts a layer's output into a dict."""

    def __init__(self, outputs: dict[str, paddle.Tensor], name: str) -> None:
        self.outputs, self.name = outputs, name

    def __call__(self, layer: nn.Layer, inputs: Any, output: paddle.Tensor) -> None:
        self.outputs[self.name] = output


class Backbone(nn.Layer):
    """A frozen network whose forward returns the outputs of `layers`, in that order.

    Args:
        arch: one of `ARCHS`.
        layers: names of sublayers, e.g. `("layer2", "layer3")`.
        size: height and width of the pictures.
        weights: see `find_weights`.
        seed: for random weights.

    Raises:
        UserError: unknown arch or layer, no weights, or weights without a parameter that `layers` need.
    """

    def __init__(
        self, arch: str, layers: Sequence[str], size: int, weights: str | Path | None = None, seed: int = 521
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise UserError(f"--arch {arch} is unknown: choose one of {', '.join(ARCHS)}")
        found = find_weights(arch, weights)
        paddle.seed(seed)
        self.arch, self.layers, self.source = arch, tuple(layers), found.source
        self.net = getattr(paddle.vision.models, arch)(pretrained=False)
        self.net.eval()
        for parameter in self.net.parameters():
            parameter.stop_gradient = True
        self._outputs: dict[str, paddle.Tensor] = {}
        sublayers = dict(self.net.named_sublayers())
        for name in self.layers:
            if name not in sublayers:
                direct = ", ".join(name for name, _ in self.net.named_children())
                raise UserError(f"--layers {name}: {arch} has no such layer; its stages are {direct}")
            sublayers[name].register_forward_post_hook(_Keep(self._outputs, name))
        self.features, self._read = self._explore(size)
        if found.arrays is not None:
            self._take(found.arrays)
        self.sha256 = fingerprint(self.arrays())

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        """float32 [batch, 3, height, width], normalised, to one [batch, channels, h, w] per layer."""
        self.net(image)
        return [self._outputs[name] for name in self.layers]

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters that `layers` depend on, by name; what a run folder stores and the fingerprint covers."""
        state = self.net.state_dict()
        return {name: state[name].numpy() for name in self._read}

    def _explore(self, size: int) -> tuple[list[Feature], list[str]]:
        """Run once on a blank picture: the outputs' shapes, and the parameters used up to the last named layer."""
        used: list[str] = []
        hooks = []
        for prefix, layer in self.net.named_sublayers():
            own = [f"{prefix}.{name}" for name, _ in layer.named_parameters(include_sublayers=False)]
            own += [f"{prefix}.{name}" for name, _ in layer.named_buffers(include_sublayers=False)]

            def note(layer: nn.Layer, inputs: Any, own: list[str] = own) -> None:
                if len(self._outputs) < len(self.layers):
                    used.extend(own)

            hooks.append(layer.register_forward_pre_hook(note))
        with paddle.no_grad():
            outputs = self(paddle.zeros([1, 3, size, size]))
        for hook in hooks:
            hook.remove()
        self._outputs.clear()
        known = self.net.state_dict()
        return [Feature(*output.shape[1:]) for output in outputs], sorted(name for name in set(used) if name in known)

    def _take(self, arrays: dict[str, np.ndarray]) -> None:
        state = self.net.state_dict()
        for name in self._read:
            if name not in arrays:
                raise UserError(
                    f"weights {self.source} lack {name}, which {self.arch} needs for {' '.join(self.layers)}: "
                    f"they are of another network or incomplete"
                )
            if tuple(arrays[name].shape) != tuple(state[name].shape):
                raise UserError(
                    f"weights {self.source} do not fit {self.arch}: {name} is {tuple(arrays[name].shape)}, "
                    f"not {tuple(state[name].shape)}; give the weights of {self.arch}"
                )
            state[name].set_value(arrays[name].astype(np.float32))
