"""Backbones: batch normalisation folded into convolutions gives the features of the network as it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from deploy import UserError
from models.backbones.backbone import Backbone


def random_network(arch: str) -> paddle.nn.Layer:
    """A network of paddle.vision whose normalisations do something, in evaluation mode."""
    paddle.seed(7)
    net = getattr(paddle.vision.models, arch)()
    random = np.random.default_rng(7)
    for layer in net.sublayers():
        if isinstance(layer, (paddle.nn.BatchNorm2D, paddle.nn.BatchNorm)):
            for tensor, low in ((layer.weight, 0.5), (layer.bias, -0.5), (layer._mean, -0.5), (layer._variance, 0.5)):
                tensor.set_value(random.uniform(low, low + 1, tensor.shape).astype(np.float32))
    net.eval()
    return net


def features(net: paddle.nn.Layer, names: list[str], image: paddle.Tensor) -> list[np.ndarray]:
    """The outputs of the sublayers called `names`."""
    outputs: dict[str, np.ndarray] = {}
    for name, layer in net.named_sublayers():
        if name in names:
            layer.register_forward_post_hook(lambda _, __, out, name=name: outputs.update({name: out.numpy()}))
    with paddle.no_grad():
        net(image)
    return [outputs[name] for name in names]


@pytest.mark.parametrize(
    ("arch", "names", "norms"),
    [
        ("resnet18", ["layer1", "layer2", "layer3"], 0),
        ("resnet18", ["conv1", "layer1.0.bn1", "layer2.1.conv2"], 1),  # one stays, after conv1
        ("mobilenet_v1", ["conv3_1", "conv4_1"], 0),
        ("mobilenet_v2", ["features.6", "features.13"], 0),
        ("mobilenet_v3_small", ["blocks.3", "blocks.8"], 0),
        ("shufflenet_v2_x1_0", ["2_4", "3_8"], 0),
    ],
)
def test_folded_normalisation_keeps_the_features(arch: str, names: list[str], norms: int, tmp_path: Path) -> None:
    net = random_network(arch)
    paddle.save(net.state_dict(), str(tmp_path / "weights.pdparams"))
    image = paddle.randn([2, 3, 64, 64])
    backbone = Backbone(arch, names, 64, tmp_path / "weights.pdparams")
    with paddle.no_grad():
        folded = [tensor.numpy() for tensor in backbone(image)]
    for ours, plain in zip(folded, features(net, names, image)):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())
    state = net.state_dict()
    assert all(np.array_equal(value, state[name].numpy()) for name, value in backbone.arrays().items())
    read = {name.rpartition(".")[0] for name in backbone.arrays()}
    left = [name for name, layer in backbone.net.named_sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    assert len(read.intersection(left)) == norms


@pytest.mark.parametrize(
    ("arch", "names"),
    [("resnet18", ["layer1", "layer3"]), ("mobilenet_v2", ["layer2"])],
)
def test_torchvision_files_are_read(arch: str, names: list[str], tmp_path: Path) -> None:
    """A state dict under torch's names, in half precision and with its counters, gives the same network."""
    net = random_network(arch)
    state = {name: value.numpy().astype(np.float16) for name, value in net.state_dict().items()}
    paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(tmp_path / "paddle.pdparams"))
    torch = {
        name.replace("._mean", ".running_mean").replace("._variance", ".running_var"): v for name, v in state.items()
    }
    torch |= {f"{name[:-12]}num_batches_tracked": np.array(7) for name in torch if name.endswith("running_mean")}
    save_file(torch, tmp_path / "torch.safetensors", {"format": "pt"})
    ours, theirs = (Backbone(arch, names, 64, tmp_path / name) for name in ("paddle.pdparams", "torch.safetensors"))
    assert ours.sha256 == theirs.sha256 and theirs.source.endswith("torch.safetensors")
    save_file({"conv1.weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="lack|do not fit"):
        Backbone(arch, names, 64, tmp_path / "other.safetensors")
