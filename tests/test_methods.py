"""Every method of the registry, through Python, export and the scripts: a new one is tested by being registered."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import done, refused, run

from deploy import Predictor, Preprocess, Runtime
from deploy.pictures.listing import list_pictures
from models import ALIASES, METHODS, load_model
from models.export.export import export

SIZE = Preprocess(96, 64)
SMALL_K = {name: {"patchcore": 5, "padim": 10, "orthoad": 10}.get(name, METHODS[name].K) for name in METHODS}


@pytest.fixture(scope="module", params=METHODS)
def exported(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp(request.param)
    method = METHODS[request.param]
    model = method(k=SMALL_K[request.param], preprocess=SIZE, arch="compact", weights="random")
    model.fit(list_pictures(data / "washer/train/good")).save(folder / "washer.safetensors")
    done_export = export(model, folder / "export")
    paths = list_pictures(data / "washer/test")[:3]
    images = SIZE.normalise(np.stack([SIZE.crop(SIZE.resized(path)) for path in paths]))
    return SimpleNamespace(model=model, file=folder / "washer.safetensors", export=done_export, images=images)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_exported_and_reloaded_equal_dygraph(exported: SimpleNamespace, batch: int, onednn: bool) -> None:
    with paddle.no_grad():
        known = [tensor.numpy() for tensor in exported.model(paddle.to_tensor(exported.images[:batch]))]
        again = [t.numpy() for t in load_model(exported.file)(paddle.to_tensor(exported.images[:batch]))]
    predictor = Predictor.load(exported.export.files["stats"], runtime=Runtime(onednn=onednn))
    for _ in range(2):
        for found, expected, reloaded in zip(predictor.program.run(exported.images[:batch]), known, again):
            np.testing.assert_array_equal(reloaded, expected)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_a_model_is_shown_in_one_line(exported: SimpleNamespace) -> None:
    assert repr(type(exported.model)(arch="compact", weights="random")) == f"{exported.model.NAME}, compact: not fitted"
    shown = repr(exported.model)
    assert f"{exported.model.NAME}, compact: threshold {exported.model.calibration.image_threshold:.4f}" in shown
    assert "\n" not in shown and len(shown) <= 160


def test_a_picture_scores_alike_in_any_batch(exported: SimpleNamespace) -> None:
    program = exported.model.predictor().program
    _, together = program.run(exported.images)
    alone = [program.run(image[None])[1][0] for image in exported.images]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize("name", [*METHODS, *(pytest.param(alias, marks=pytest.mark.once) for alias in ALIASES)])
def test_scripts_know_every_name(name: str, data: Path, tmp_path: Path) -> None:
    own = ALIASES.get(name, (name, {}))[0]
    words = [
        "--category",
        "washer",
        "--arch",
        "compact",
        "--method",
        name,
        "--k",
        SMALL_K[own],
        "--save_path",
        tmp_path,
    ]
    size = ["--weights", "random", "--resize", "96", "--crop_size", "64"]
    done(run("train.py", "--data_path", data, *words, *size, "--eval", "--eval_PRO", "--save_pic", "False"))
    variant = name if name in ("h_sample", "svd_ortho", "gaussian") else own
    folder = tmp_path / f"{variant}_compact_{SMALL_K[own]}"
    with open(folder / "washer_seed521.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert first["PRO_score"]
    done(run("predict.py", data / "washer/test/good", *words, "--save_pic", "False"))
    if name == "sample":
        other = [word if word != "sample" else "h_sample" for word in words]
        refused(run("predict.py", data / "washer/test/good", *other), "no model at", "h_sample_compact_10")
