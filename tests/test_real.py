"""Real pictures, real weights: the figures that the project promises."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import MVTEC, WEIGHTS, done, needs_real, run

from deploy import Predictor, Runtime
from models import load_model

pytestmark = [needs_real, pytest.mark.real]


def figures(path: Path) -> dict[str, float]:
    with open(path, newline="") as file:
        row = next(csv.DictReader(file))
    return {name: float(value) for name, value in list(row.items())[1:10]}


def train(category: str, output: Path, *words: object) -> SimpleNamespace:
    arguments = ["--data_path", MVTEC, "--category", category, "--arch", "resnet18", "--k", "10", "--save_path", output]
    done(run("train.py", *arguments, "--weights", WEIGHTS, "--eval", "--eval_PRO", *words))
    folder = output / "patchcore_resnet18_10"
    return SimpleNamespace(
        folder=folder, model=folder / f"{category}.safetensors", figures=figures(folder / f"{category}_seed521.csv")
    )


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return train("bottle", tmp_path_factory.mktemp("bottle"), "--method", "patchcore")


@pytest.fixture(scope="module")
def hazelnut(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return train("hazelnut", tmp_path_factory.mktemp("hazelnut"), "--method", "patchcore")


def test_bottle(bottle: SimpleNamespace) -> None:
    assert bottle.figures["Image_AUROC"] >= 0.995
    assert bottle.figures["Pixel_AUROC"] >= 0.975
    assert bottle.figures["PRO_score"] >= 0.90
    assert bottle.figures["Image_F1"] >= 0.98, "the threshold from good training pictures alone"


def test_bottle_uncropped(tmp_path: Path) -> None:
    assert train("bottle", tmp_path, "--crop_size", "256", "--save_pic", "False").figures["Pixel_AUROC"] >= 0.979


def test_hazelnut_and_the_predecessors_name(hazelnut: SimpleNamespace, tmp_path: Path) -> None:
    assert hazelnut.figures["Image_AUROC"] == 1.0
    assert hazelnut.figures["Pixel_AUROC"] >= 0.985
    again = train("hazelnut", tmp_path, "--method", "coreset")
    assert again.figures == hazelnut.figures
    assert again.model.read_bytes() == hazelnut.model.read_bytes()


@pytest.mark.parametrize("onednn", [True, False])
def test_exported_bottle_equals_dygraph(bottle: SimpleNamespace, tmp_path: Path, onednn: bool) -> None:
    done(run("export_model.py", "--model_path", bottle.model, "--save_dir", tmp_path))
    model = load_model(bottle.model)
    paths = sorted((MVTEC / "bottle/test").rglob("*.png"))[::12][:7]
    images = model.preprocess.normalise(np.stack([model.preprocess.crop(model.preprocess.resized(p)) for p in paths]))
    with paddle.no_grad():
        known = [tensor.numpy() for tensor in model(paddle.to_tensor(images))]
    predictor = Predictor.load(tmp_path / "stats", runtime=Runtime(onednn=onednn))
    for batch in (1, 2, 7):
        for found, expected in zip(predictor.program.run(images[:batch]), known):
            np.testing.assert_allclose(found, expected[:batch], rtol=1e-5)


def test_three_scripts_one_score(hazelnut: SimpleNamespace, tmp_path: Path) -> None:
    pictures = MVTEC / "hazelnut/test"
    done(run("export_model.py", "--model_path", hazelnut.model, "--save_dir", tmp_path / "export"))
    done(run("predict.py", pictures, "--model_path", hazelnut.model, "--save_path", tmp_path))
    words = ["--stats", tmp_path / "export/stats", "--input_file", pictures, "--save_path", tmp_path / "infer"]
    done(run("infer.py", *words, "--batch_size", "4", "--enable_mkldnn", "False"))
    tables = []
    for path in (
        next(tmp_path.rglob("predict.csv")),
        tmp_path / "infer/infer.csv",
        hazelnut.folder / "hazelnut/eval.csv",
    ):
        with open(path, newline="") as file:
            tables.append({row["path"]: float(row["score"]) for row in csv.DictReader(file)})
    of_eval = tables.pop()
    for scores in tables:
        assert scores == {name: pytest.approx(score, rel=1e-5) for name, score in of_eval.items()}
