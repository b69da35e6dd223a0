"""ONNX graphs written node by node: the same computation as ours, in a form that other runtimes can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.vision.models.resnet import BasicBlock

from deploy.errors import UserError
from models.backbones.backbone import Backbone
from models.backbones.compact import Residual
from models.backbones.folding import Shift

OPSET = 18


class Graph:
    """Nodes and constants in the order in which they were added; every node has one output with a generated name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, array: np.ndarray | Sequence[int]) -> str:
        """Add a constant (int64 if not an array); return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        value = array if isinstance(array, np.ndarray) else np.asarray(array, np.int64)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def model(self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]) -> bytes:
        """Return the serialised model; its inputs and outputs are float32, given by name with their shapes."""
        from onnx import TensorProto, helper

        def values(shapes: Mapping[str, Sequence[int]]) -> list[Any]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in shapes.items()]

        graph = helper.make_graph(self._nodes, "flat", values(inputs), values(outputs), self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def add_backbone(graph: Graph, backbone: Backbone, image: str) -> list[str]:
    """Add the backbone to a graph; return the names of the outputs of its layers.

    Raises:
        UserError: the backbone is neither a ResNet of basic blocks nor compact, or has other layers than layer1 to
            layer3.
    """
    net, layers = backbone.net, ("layer1", "layer2", "layer3")
    if not set(backbone.layers) <= set(layers):
        raise UserError(f"--layers {' '.join(backbone.layers)}: flat graphs are written for {', '.join(layers)}")
    if backbone.arch == "compact":
        steps = [(net.stage1, net.layer1), (net.stage2, net.layer2), (net.stage3, net.layer3)]
    elif backbone.arch in ("resnet18", "resnet34"):
        steps = [(nn.Sequential(net.conv1, net.bn1, nn.ReLU(), net.maxpool, net.layer1), None)]
        steps += [(net.layer2, None), (net.layer3, None)]
    else:
        raise UserError(f"--arch {backbone.arch}: flat graphs are written for resnet18, resnet34 and compact")
    found, flow = {}, image
    deepest = max(map(layers.index, backbone.layers))
    for name, (stage, head) in list(zip(layers, steps))[: deepest + 1]:
        flow = _layer(graph, stage, flow)
        if name in backbone.layers:
            found[name] = flow if head is None else _convolution(graph, head, flow)
    return [found[name] for name in backbone.layers]


def _layer(graph: Graph, layer: nn.Layer, flow: str) -> str:
    """Add a layer: a sequence, a residual block of either kind, or one of their parts; return its output's name."""
    if isinstance(layer, nn.Sequential):
        for part in layer.children():
            flow = _layer(graph, part, flow)
        return flow
    if isinstance(layer, nn.Conv2D):
        return _convolution(graph, layer, flow)
    if isinstance(layer, Shift):  # when it loads the graph, ONNX Runtime makes it the convolution's bias
        return graph.add("Add", flow, graph.constant(layer.bias.numpy()))
    if isinstance(layer, nn.ReLU):
        return graph.add("Relu", flow)
    if isinstance(layer, nn.MaxPool2D):
        return graph.add("MaxPool", flow, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    if isinstance(layer, Residual):
        return graph.add("Relu", graph.add("Add", _layer(graph, layer.branch, flow), flow))
    if isinstance(layer, BasicBlock):
        branch = graph.add("Relu", _layer(graph, layer.bn1, _convolution(graph, layer.conv1, flow)))
        branch = _layer(graph, layer.bn2, _convolution(graph, layer.conv2, branch))
        straight = flow if layer.downsample is None else _layer(graph, layer.downsample, flow)
        return graph.add("Relu", graph.add("Add", branch, straight))
    raise UserError(f"no flat graph is written for a {type(layer).__name__}")


def _convolution(graph: Graph, conv: nn.Conv2D, flow: str) -> str:
    weight = conv.weight.numpy()
    bias = np.zeros(len(weight), np.float32) if conv.bias is None else conv.bias.numpy()
    kernel, stride = weight.shape[2], conv._stride[0]
    constants = [graph.constant(value) for value in (weight, bias)]
    shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
    return graph.add("Conv", flow, *constants, **shape)


def backbone_gflop(backbone: Backbone, size: int) -> float:
    """Return billions of multiplications and additions per picture, in the convolutions that the layers depend on."""
    read, total, hooks = set(backbone.arrays()), 0, []

    def count(layer: nn.Conv2D, inputs: Any, output: paddle.Tensor) -> None:
        nonlocal total
        total += 2 * int(np.prod(layer.weight.shape)) * output.shape[2] * output.shape[3]

    for name, layer in backbone.net.named_sublayers():
        if isinstance(layer, nn.Conv2D) and f"{name}.weight" in read:
            hooks.append(layer.register_forward_post_hook(count))
    with paddle.no_grad():
        backbone(paddle.zeros([1, 3, size, size]))
    for hook in hooks:
        hook.remove()
    return total / 1e9
