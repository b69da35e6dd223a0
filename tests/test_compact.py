"""The embedded backbone: its shape, its weights, and the training that made them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT, done, run
from warm_python import WarmPython

from deploy import Preprocess
from deploy.errors import UserError
from deploy.runtime.program import Program, Runtime, save_program
from deploy.storage.tensors import read_tensors
from models import METHODS, PatchCore, build_model
from models.backbones.backbone import Backbone
from models.backbones.compact import CHANNELS, EMBEDDED, Compact
from models.backbones.distillation import LAYERS, Schedule, final_parameters
from models.export.export import export
from models.graph.compiled import image_spec

STRIDES = (4, 8, 16)
TINY = ["--weights", "random", "--batch", "1", "--sizes", "32", "48", "--warmup", "5", "--lr", "4e-3", "--cpu"]


@pytest.fixture(autouse=True)
def no_other_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PADDLEPATCH_WEIGHTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("size", [96, 224])
def test_layers_channels_and_strides(size: int) -> None:
    backbone = Backbone("compact", LAYERS, size)
    assert [(f.channels, f.height, f.width) for f in backbone.features] == [
        (channels, size // stride, size // stride) for channels, stride in zip(CHANNELS, STRIDES)
    ]
    with paddle.no_grad():
        outputs = backbone(paddle.zeros([2, 3, size, size]))
    assert [tuple(output.shape) for output in outputs] == [(2, *feature) for feature in backbone.features]


def test_embedded_weights_need_nothing(tmp_path: Path) -> None:
    assert EMBEDDED.stat().st_size <= 1_500_000
    backbone = Backbone("compact", LAYERS, 96)
    assert backbone.source == f"{EMBEDDED} (embedded)"
    random = Backbone("compact", LAYERS, 96, "random")
    assert backbone.sha256 != random.sha256 and "random" in random.source
    _, header = read_tensors(EMBEDDED, "backbone")
    assert header["arch"] == "compact"
    assert {"recipe", "seed", "versions", "data"} <= set(header)


def test_other_weights_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "compact.safetensors"
    other.write_bytes(EMBEDDED.read_bytes())
    assert Backbone("compact", LAYERS, 64, other).source == str(other)
    monkeypatch.setenv("PADDLEPATCH_WEIGHTS", str(tmp_path))
    assert Backbone("compact", LAYERS, 64).source == str(other)


def test_no_layer4() -> None:
    with pytest.raises(UserError, match="layer4: compact has no such layer"):
        Backbone("compact", ["layer4"], 64)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_compiled_equals_dygraph(onednn: bool, batch: int, tmp_path: Path) -> None:
    backbone = Backbone("compact", LAYERS, 96)
    program = Program(*save_program(backbone, [image_spec(96)], tmp_path / "program"), Runtime(onednn=onednn))
    image = np.random.default_rng(batch).standard_normal((batch, 3, 96, 96)).astype(np.float32)
    with paddle.no_grad():
        eager = [output.numpy() for output in backbone(paddle.to_tensor(image))]
    for mine, theirs in zip(program.run(image), eager):
        np.testing.assert_allclose(mine, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("archs", [["compact"], ["compact", "compact"]], ids=["alone", "ensemble"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_on_it(name: str, archs: list[str], tmp_path: Path) -> None:
    """Fitting, export and its comparison with dygraph, alone and as a member of an ensemble."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (70, 70, 3), np.uint8) for _ in range(5)]
    layers = [None, ["layer1", "layer2"]][: len(archs)]
    options = {"descriptor_layer": "layer3"} if "descriptor_layer" in METHODS[name].OPTIONS else {}
    size = Preprocess(64, 64)
    model = build_model(name, archs, layers, [None] * len(archs), k=10, preprocess=size, **options).fit(pictures)
    assert max(export(model, tmp_path).compared.values()) < 1e-5


def test_a_method_on_it_is_saved_and_loaded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (112, 112, 3), np.uint8) for _ in range(3)]
    model = PatchCore("compact", k=10).fit(pictures)
    model.save(tmp_path / "thing.safetensors")
    backbone = next(tmp_path.glob("compact-*"))
    backbone.write_bytes(backbone.read_bytes()[:-1])  # one that was cut short earlier is written anew
    again = PatchCore.load(model.save(tmp_path / "thing.safetensors"))
    assert [p.score for p in again.predict(pictures)] == [p.score for p in model.predict(pictures)]


@pytest.mark.parametrize("layer", LAYERS)
def test_finish_keeps_distances(layer: str) -> None:
    """Turned, and in layer1 spread over more channels, but as far apart as before, times the layer's size."""
    state = {name: value.numpy() for name, value in Compact((32, 64, 128)).state_dict().items()}
    after = final_parameters(state, (40, 64, 128), (0.5, 2.0, 1.0), 1)
    before, turned = (weights[f"{layer}.weight"][:, :, 0, 0].astype(np.float32) for weights in (state, after))
    inputs = np.random.default_rng(0).standard_normal((5, before.shape[1])).astype(np.float32)
    size = dict(zip(LAYERS, (0.5, 2.0, 1.0)))[layer]
    expected, found = (np.linalg.norm((inputs - inputs[0]) @ weights.T, axis=1) for weights in (before, turned))
    np.testing.assert_allclose(found, size * expected, rtol=1e-2)


def test_schedule_can_be_made_longer_until_it_decays() -> None:
    short, long = Schedule(100, 1.0, 10, 0.3), Schedule(1000, 1.0, 10, 0.3)
    assert [short.at(step) for step in range(70)] == [long.at(step) for step in range(70)]
    rates = [short.at(step) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and 0 < rates[-1] < 0.01


STEPS = ["--steps", "32", "--save_every", "8"]


def train(warm: WarmPython, folder: Path, *words: object) -> str:
    """In a process of its own: bytes are equal where the same was done before."""
    command = [warm.program, "train_compact.py", *TINY, *STEPS, "--save_path", folder, *words]
    return done(subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)).stdout


def header(folder: Path) -> dict:
    return read_tensors(folder / "compact.safetensors", "backbone")[1]


def arrays(path: Path, kind: str) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in read_tensors(path, kind)[0].items()}


@pytest.mark.once
def test_training_lowers_the_loss_and_resumes_byte_for_byte(tmp_path: Path, warm: WarmPython) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    losses = [
        float(line.split()[3]) for line in train(warm, whole, "--workers", "0").splitlines() if line.startswith("step ")
    ]
    assert len(losses) == 4 and losses[-1] < losses[0]

    ours, theirs = os.pipe()
    process = warm.start(["train_compact.py", *TINY, *STEPS, "--save_path", cut], ROOT, [0, theirs, 2])
    os.close(theirs)
    with open(ours) as said:
        for line in said:
            if line.startswith("step 16"):
                process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (cut / "checkpoint.safetensors").is_file(), "it was killed too early"
    told = train(warm, cut, "--workers", "0")
    assert "goes on from" in told and "step 32" in told
    for name, kind in (("checkpoint.safetensors", "training"), ("compact.safetensors", "backbone")):
        assert arrays(whole / name, kind) == arrays(cut / name, kind)
    assert header(whole) == header(cut)

    trained = Backbone("compact", LAYERS, 64, cut / "compact.safetensors")
    assert [feature.channels for feature in trained.features] == list(CHANNELS)
    for words, told in (
        (["--steps", "30"], ("checkpoint.safetensors", "schedule")),
        ([*STEPS, "--seed", "7"], ("seed 521, not 7", "--resume False")),
    ):
        result = run("train_compact.py", *TINY, "--save_path", cut, *words)
        last = result.stderr.strip().splitlines()[-1]  # some builds of OpenCV remark on the photographs before
        assert result.returncode == 2 and all(word in last for word in told), result.stderr
