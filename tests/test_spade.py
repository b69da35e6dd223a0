"""SPADE against literal numpy versions of its equations, and its gallery on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import full_disk, refused, run
from scipy.ndimage import gaussian_filter

import models.spade
from deploy import Predictor, Preprocess, UserError
from models import SPADE
from models.export.export import export
from models.graph.compiled import compile_feature_scoring
from models.graph.resample import bilinear_matrix

SMALL = Preprocess(64, 64)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (70, 80, 3), dtype=np.uint8) for _ in range(count)]


def spade(count: int = 9, k: int = 4, **options: object) -> SPADE:
    return SPADE(k=k, preprocess=SMALL, arch="compact", weights="random", **options).fit(pictures(count), batch_size=4)


def literal_features(model: SPADE, items: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Per layer [pictures, positions, channels], and descriptors [pictures, channels]."""
    crops = SMALL.normalise(np.stack([SMALL.crop(SMALL.resized(item)) for item in items]))
    with paddle.no_grad():
        outputs = [output.numpy().astype(np.float64) for output in model.backbone(paddle.to_tensor(crops))]
    flat = [output.reshape(*output.shape[:2], -1).transpose(0, 2, 1) for output in outputs]
    return flat[:-1], flat[-1].mean(axis=1)


@pytest.mark.parametrize("cells", [1 << 22, 1 << 17], ids=["at once", "in blocks"])
@pytest.mark.parametrize(
    ("gallery", "image_score", "k", "score_top"),
    [
        ("all_positions", "knn", 4, 1),
        ("same_position", "knn", 1, 1),
        ("same_position", "top", 50, 1),
        ("all_positions", "top", 5, 4),
        ("all_positions", "max", 5, 1),
    ],
)
def test_scores_equal_the_papers_equations(
    gallery: str, image_score: str, k: int, score_top: float, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.spade, "CELLS", cells)
    model = spade(k=k, gallery=gallery, image_score=image_score, k_image=3, score_top=score_top)
    train, known = literal_features(model, pictures(9))
    test, described = literal_features(model, pictures(3, seed=9))
    for number, prediction in enumerate(model.predict(pictures(3, seed=9), batch_size=3)):
        to_pictures = ((described[number] - known) ** 2).sum(axis=1)
        neighbours = np.argsort(to_pictures)[:k]
        total = 0
        for layer, seen in zip(test, train):
            query, of_neighbours = layer[number], seen[neighbours]
            if gallery == "all_positions":  # equation 3: the nearest of all positions of all neighbours
                against = of_neighbours.reshape(-1, query.shape[1])
                squared = ((query[:, None] - against[None]) ** 2).sum(axis=2).min(axis=1)
            else:
                squared = ((query[None] - of_neighbours) ** 2).sum(axis=2).min(axis=0)
            side = round(len(squared) ** 0.5)
            rows = bilinear_matrix(16, side).astype(np.float64)
            total = total + rows @ squared.reshape(side, side) @ rows.T / len(test)
        rows = bilinear_matrix(64, 16).astype(np.float64)
        expected = gaussian_filter(rows @ total @ rows.T, 4.0)
        np.testing.assert_allclose(prediction.anomaly_map, expected, rtol=1e-4)
        score = {
            "knn": np.sort(to_pictures)[:3].mean(),  # equation 1
            "max": total.max(),
            "top": np.sort(total.ravel())[-max(1, round(score_top / 100 * total.size)) :].mean(),
        }
        assert prediction.score == pytest.approx(score[image_score], rel=1e-4)


@pytest.mark.parametrize("k", [3, 50])
def test_held_out_scores_are_those_of_a_model_without_the_picture(k: int) -> None:
    model = spade(k=k, gallery="all_positions")
    for picture in (0, 8):
        one = pictures(9)[picture]
        rest = SPADE(k=k, preprocess=SMALL, arch="compact", weights="random").fit(
            [p for i, p in enumerate(pictures(9)) if i != picture]
        )
        [expected] = rest.predict([one])
        program, held_out = compile_feature_scoring(model, model.runtime), range(picture, picture + 1)
        with model.hold_out(held_out, model.training_features(held_out)) as (features, changed):
            program.set({**model.fitted, **changed})
            anomaly_map, score = program.run(features, "features")
        np.testing.assert_allclose(anomaly_map[0], expected.anomaly_map, rtol=1e-5)
        np.testing.assert_allclose(score[0], expected.score, rtol=1e-5)


def test_the_gallery_stays_on_disk(tmp_path: Path) -> None:
    """It is mapped in fitting, loading and running an export; a change of the mapping reaches the program."""
    model = spade()
    again = SPADE.load(model.save(tmp_path / "model.safetensors"))
    done = export(again, tmp_path / "export")
    assert done.files["stats"].stat().st_size > sum(model.fitted[name].nbytes for name in model.galleries)
    assert done.files["parameters"].stat().st_size < 50_000_000
    for fitted in (model.fitted, again.fitted):
        base = fitted["gallery_0"]
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)
    predictor = Predictor.load(done.files["stats"])
    [before] = predictor.predict(pictures(1))
    stored = {name: np.asarray(predictor.program._held[name].numpy()) for name in model.galleries}
    predictor.program.set({name: value + 1 for name, value in stored.items()})
    [after] = predictor.predict(pictures(1))
    assert before.score == after.score and (before.anomaly_map != after.anomaly_map).all()


def test_a_gallery_that_cannot_be_written_is_one_line() -> None:
    """Also one that is smaller than a buffer of Python's files, which is written when the fit ends."""
    options = {"layers": ["layer3"], "descriptor_layer": "layer3"}
    model = SPADE(k=2, preprocess=SMALL, arch="compact", weights="random", **options)
    model.start_fit(2)
    with full_disk(1000), pytest.raises(UserError, match="cannot write .* TMPDIR"):
        model.partial_fit(np.zeros((1, model.channels), np.float32))
        model.finish_fit()


def test_weights_without_the_descriptors_layer_are_refused_with_the_cure(data: Path, tmp_path: Path) -> None:
    state = paddle.vision.models.resnet18(pretrained=False).state_dict()
    short = {name: value for name, value in state.items() if not name.startswith("layer4")}
    paddle.save(short, str(tmp_path / "resnet18.pdparams"))
    words = [
        "--data_path",
        data,
        "--category",
        "washer",
        "--method",
        "spade",
        "--preset",
        "paper",
        "--save_path",
        tmp_path,
    ]
    line = refused(run("train.py", *words, "--weights", tmp_path / "resnet18.pdparams"), "--descriptor_layer layer3")
    assert "layer4.0" in line and "for layer4" in line


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"k": 0}, "--k 0"),
        ({"k": 2.5}, "--k 2.5"),
        ({"k_image": 0}, "--k_image 0"),
        ({"gallery": "some"}, "--gallery some"),
        ({"image_score": "reweighted"}, "knn, max, top, smooth"),
        ({"descriptor_layer": "layer9"}, "layer9"),
        ({"eps": 0.1}, "eps"),
    ],
)
def test_unusable_arguments_are_named(options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        SPADE(**{"weights": "random", "preprocess": SMALL, **options})
