"""Presets: complete settings by name, which options beside them override."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import done, refused, run

from deploy import Preprocess, UserError
from deploy.storage.tensors import read_tensors
from models import METHODS, build_model
from models.presets import DEFAULT, PAPER, PRESETS, preset
from options import train_parser
from options.pictures import preprocess, preset_preprocess, whole_picture

SMALL = ["--arch", "compact", "--weights", "random", "--save_pic", "False"]


@pytest.mark.parametrize(("method", "name"), [(m, name) for m, found in PRESETS.items() for name in found])
def test_every_preset_builds(method: str, name: str) -> None:
    found = preset(method, name)
    layers = [layer for layer in found.layers if layer != "layer4"]
    options = {**({"descriptor_layer": "layer3"} if method == "spade" else {}), **found.options}
    size = Preprocess(96, 96)
    model = build_model(method, ["compact"], [layers], ["random"], k=found.k, preprocess=size, **options)
    assert model.options.items() >= found.options.items()


def test_paper_is_each_methods_own_settings() -> None:
    for name, method in METHODS.items():
        found = preset(name, PAPER)
        assert (found.layers, found.k, found.options) == (method.LAYERS, method.K, {})
        assert preset(name) == PRESETS[name][DEFAULT]
    assert preset("coreset", "fast") == preset("patchcore", "fast")
    with pytest.raises(UserError, match="--preset fastest: patchcore has paper, fast, balanced, best"):
        preset("patchcore", "fastest")


def header(output: Path, name: str) -> dict:
    return read_tensors(output / name / "washer.safetensors", "model")[1]


@pytest.mark.once
def test_options_beside_a_preset_override_it(data: Path, tmp_path: Path) -> None:
    words = ["train.py", "--data_path", data, "--category", "washer", *SMALL, "--save_path", tmp_path]
    small = ["--resize", "96", "--crop_size", "64"]
    done(run(*words, *small, "--preset", "balanced"))
    known = preset("patchcore", "balanced")
    found = header(tmp_path, f"patchcore_compact_{known.k:g}")
    assert found["layers"] == list(known.layers) and found["options"].items() >= known.options.items()
    assert (found["preprocess"]["resize"], found["preprocess"]["crop_size"], found["k"]) == (96, 64, known.k)
    done(run(*words, *small, "--preset", "balanced", "--k", "7", "--image_score", "max", "--layers", "layer2"))
    found = header(tmp_path, "patchcore_compact_7")
    assert (found["layers"], found["options"]["image_score"], found["options"]["grid"]) == (["layer2"], "max", None)
    assert "--preset balanced" in found["command"]
    again = [word for word in found["command"].split()[1:] if word != "train.py"]
    before = (tmp_path / "patchcore_compact_7/washer.safetensors").read_bytes()
    done(run("train.py", *again))
    assert (tmp_path / "patchcore_compact_7/washer.safetensors").read_bytes() == before, "the command repeats the run"
    refused(run(*words, "--method", "spade", "--preset", "best"), "--preset best", "spade has paper, balanced")


@pytest.mark.once
def test_scripts_find_the_model_of_a_preset(data: Path, tmp_path: Path) -> None:
    words = ["--category", "washer", "--arch", "compact", "--save_path", tmp_path, "--preset", "fast"]
    sizes = ["--weights", "random", "--resize", "96", "--crop_size", "64"]
    done(run("train.py", "--data_path", data, *words, *sizes))
    done(run("predict.py", data / "washer/test/good", *words, "--save_pic", "False"))


@pytest.mark.once
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 100), None),
        ((110, 100), None),
        ((100, 250), (192, 512)),
        ((250, 100), (512, 192)),
        ((120, 100), (352, 288)),
    ],
)
def test_pictures_far_from_square_are_seen_whole(
    shape: tuple[int, int], expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((*shape, 3), np.uint8))
    (tmp_path / "bad.png").write_text("no picture")
    assert whole_picture(sorted(tmp_path.iterdir()), 320) == expected


@pytest.mark.once
def test_best_looks_closer_at_crops_alone(tmp_path: Path) -> None:
    for shape, name in [((250, 100), "tall"), ((100, 100), "square")]:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((*shape, 3), np.uint8))
    seen = {
        (name, shape): preset_preprocess("patchcore", preset("patchcore", name), [tmp_path / f"{shape}.png"])
        for name in ("balanced", "best")
        for shape in ("tall", "square")
    }
    assert seen["best", "tall"].size == seen["balanced", "tall"].size == (512, 192)
    assert seen["best", "square"] == Preprocess(458, 400) and seen["balanced", "square"] == Preprocess(366, 320)


@pytest.mark.once
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--fit", "stretch"], (366, 320, "stretch")),
        (["--resize", "400"], (400, 320, "crop")),
        (["--crop_size", "64", "96"], (366, (64, 96), "crop")),
    ],
)
def test_one_option_of_size_alone_leaves_the_others_to_the_preset(words: list[str], expected: tuple) -> None:
    """And pictures are not looked at: they may be far from square."""
    args = train_parser("").parse(["--range", "0", "9", *words])
    found = preprocess(args, preset("patchcore", "balanced"), [], lambda line: None)
    assert found == Preprocess(*expected, value_range=(0, 9))


@pytest.mark.once
@pytest.mark.parametrize(("tall", "expected"), [(250, (320, 320)), (112, None)])
def test_mixed_shapes_are_seen_as_squares(tall: int, expected: tuple[int, int] | None, tmp_path: Path) -> None:
    """Three of four pictures are tall, so that their median is."""
    for number, shape in enumerate([(tall, 100), (tall, 100), (100, tall), (tall, 100)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((*shape, 3), np.uint8))
    assert whole_picture(sorted(tmp_path.iterdir()), 320) == expected


@pytest.mark.once
def test_training_says_that_it_stretches(data: Path, tmp_path: Path) -> None:
    good = tmp_path / "data/part/train/good"
    good.mkdir(parents=True)
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (60, 150, 3), np.uint8)
        cv2.imwrite(str(good / f"{number}.png"), picture)
    words = ["train.py", "--data_path", tmp_path / "data", "--category", "part", *SMALL, "--save_path", tmp_path]
    result = done(run(*words, "--preset", "fast"))
    assert "stretched to 128 x 352" in result.stdout
    assert read_tensors(tmp_path / "patchcore_compact_1/part.safetensors", "model")[1]["preprocess"]["fit"] == "stretch"
    result = done(run(*words, "--preset", "paper"))
    assert "stretched" not in result.stdout
