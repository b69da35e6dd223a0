"""PatchCore's graph against literal numpy versions of its equations, and the Python interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from scipy.ndimage import gaussian_filter

from deploy import Preprocess, UserError
from models import METHODS, PatchCore
from models.backbones import backbone as backbone_module
from models.backbones.backbone import ARCHS, Backbone
from models.graph.resample import bilinear_matrix, upsample

SMALL = Preprocess(112, 96)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (120, 130, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted() -> PatchCore:
    return PatchCore(k=20, preprocess=SMALL, arch="compact", weights="random").fit(pictures(6), batch_size=4)


def embed(model: PatchCore, items: list[np.ndarray]) -> np.ndarray:
    crops = np.stack([SMALL.crop(SMALL.resized(item)) for item in items])
    with paddle.no_grad():
        return model.embed(paddle.to_tensor(SMALL.normalise(crops))).numpy()


@pytest.mark.parametrize("num_neighbors", [1, 3])
@pytest.mark.parametrize(("score_sigma", "score_top"), [(0, 1), (0.7, 3)])
@pytest.mark.parametrize("image_score", ["reweighted", "max", "top", "density", "smooth"])
def test_scores_equal_the_papers_equations(
    image_score: str, score_sigma: float, score_top: float, num_neighbors: int
) -> None:
    options = {"image_score": image_score, "num_neighbors": num_neighbors, "search": "exact"}
    options |= {"score_sigma": score_sigma, "score_top": score_top}
    model = PatchCore(k=20, preprocess=SMALL, arch="compact", weights="random", **options).fit(
        pictures(6), batch_size=4
    )
    bank = (model.memory_bank.numpy() + model.bank_mean.numpy()).astype(np.float64)
    test = pictures(3, seed=9)
    rows, columns = (bilinear_matrix(96, side).astype(np.float64) for side in model.grid)
    features = embed(model, test).astype(np.float64).reshape(3, model.positions, -1)
    for patches, prediction in zip(features, model.predict(test, batch_size=3)):
        distances = np.linalg.norm(patches[:, None] - bank[None], axis=2)
        nearest = np.sort(distances, axis=1)[:, :num_neighbors].mean(axis=1)
        worst = nearest.argmax()  # equation 6: m_test,*
        star = distances[worst].argmin()  # m*
        score = nearest[worst]
        if image_score == "reweighted":  # equation 7, N_b(m*) from the bank itself, b = 9
            around = np.argsort(np.linalg.norm(bank - bank[star], axis=1), kind="stable")[:9]
            lengths = np.linalg.norm(patches[worst] - bank[around], axis=1)
            score *= 1 - np.exp(lengths[0] - lengths.min()) / np.exp(lengths - lengths.min()).sum()
        smoothed = gaussian_filter(rows @ nearest.reshape(model.grid) @ columns.T, 4.0)
        if image_score == "smooth":
            score = smoothed.max()
        if image_score == "density":
            to_others = np.sort(np.linalg.norm(bank[:, None] - bank[None], axis=2), axis=1)[:, 1:6].mean(axis=1)
            nearest = nearest / to_others[distances.argmin(axis=1)]
        if image_score in ("max", "top", "density"):
            if score_sigma:
                nearest = gaussian_filter(nearest.reshape(model.grid), score_sigma, truncate=2).ravel()
            count = 1 if image_score == "max" else max(1, round(score_top / 100 * nearest.size))
            score = np.sort(nearest)[-count:].mean()
        assert prediction.score == pytest.approx(score, rel=1e-5)
        np.testing.assert_allclose(prediction.anomaly_map, smoothed, rtol=2e-5, atol=1e-5 * smoothed.max())


def test_features_are_locally_aware_and_aligned(fitted: PatchCore) -> None:
    """Equations 2 and 3: mean over 3x3 with zeros outside, deeper layers upsampled bilinearly, concatenated."""
    crop = SMALL.normalise(SMALL.crop(SMALL.resized(pictures(1)[0]))[None])
    with paddle.no_grad():
        outputs = [output[0].numpy().astype(np.float64) for output in fitted.backbone(paddle.to_tensor(crop))]
    expected = []
    for output in outputs:
        padded = np.pad(output, ((0, 0), (1, 1), (1, 1)))
        height, width = output.shape[1:]
        mean = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
        expected.append(
            np.stack([bilinear_matrix(12, height) @ plane @ bilinear_matrix(12, width).T for plane in mean])
        )
    expected = np.concatenate(expected).reshape(128, -1).T
    np.testing.assert_allclose(embed(fitted, pictures(1)), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("stride", [1, 2])
def test_finer_layers_are_averaged_over_the_positions_of_the_grid(stride: int) -> None:
    """layer1 by a mean over 3x3, then over 2x2; layer3 upsampled as ever."""
    words = {"arch": "compact", "weights": "random", "layers": ["layer1", "layer2", "layer3"], "patch_stride": stride}
    model = PatchCore(preprocess=SMALL, grid="layer2", **words)
    found = embed(model, pictures(1)).reshape(*model.grid, -1)
    assert model.grid == (12 // stride, 12 // stride)
    parts = [
        embed(PatchCore(preprocess=SMALL, **{**words, "layers": [name], "patch_stride": 1}), pictures(1))
        for name in ("layer1", "layer2", "layer3")
    ]
    fine, same = parts[0].reshape(12, 2, 12, 2, -1).mean(axis=(1, 3)), parts[1].reshape(12, 12, -1)
    for start, expected in ((0, fine), (fine.shape[2], same)):
        part = found[..., start : start + expected.shape[2]]
        np.testing.assert_allclose(part, expected[::stride, ::stride], rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert found.shape[2] == sum(part.shape[1] for part in parts)
    with pytest.raises(UserError, match="--grid layer4 is none of the layers read: layer2 layer3"):
        PatchCore(grid="layer4", arch="compact", weights="random")


def test_copies_in_the_bank_do_not_make_scores_infinite() -> None:
    blank = [np.full((120, 130, 3), 90, np.uint8)] * 4
    options = {"image_score": "density", "sampler": "identity"}
    model = PatchCore(preprocess=SMALL, arch="compact", weights="random", **options).fit(blank + pictures(1))
    assert (model.spacing.numpy() > 0).all()
    scores = [prediction.score for prediction in model.predict([*blank[:1], *pictures(2, seed=5)])]
    assert np.isfinite(scores).all() and scores[0] < min(scores[1:])


def test_upsample_equals_interpolate() -> None:
    maps = paddle.rand([3, 5, 7])
    ours = upsample((20, 31), (5, 7))(maps).numpy()
    theirs = paddle.nn.functional.interpolate(maps.unsqueeze(1), (20, 31), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(ours, theirs.squeeze(1).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "k", "rows"), [("random", 20, 86), ("approx_greedy", 150, 150), ("identity", 5, 432)]
)
def test_samplers(sampler: str, k: float, rows: int) -> None:
    model = PatchCore(k=k, preprocess=SMALL, arch="compact", weights="random", sampler=sampler).fit(pictures(3))
    assert model.memory_bank.shape == [rows, 128]


def test_whole_bank_finds_every_training_patch() -> None:
    model = PatchCore(k=100, preprocess=SMALL, arch="compact", weights="random").fit(pictures(3))
    assert model.memory_bank.shape[0] == 3 * model.positions
    assert max(prediction.anomaly_map.max() for prediction in model.predict(pictures(3))) < 1e-3


def test_held_out_statistics_hold_nothing_of_the_picture() -> None:
    fitted = PatchCore(k=20, preprocess=SMALL, arch="compact", weights="random", sampler="random")
    fitted.end_fit = int
    fitted.fit(pictures(6))
    before = {name: value.copy() for name, value in fitted.fitted.items()}
    for picture in range(6):
        own = np.flatnonzero(fitted._owner == picture)
        others = fitted.memory_bank.numpy()[fitted._owner != picture]
        with fitted.hold_out(range(picture, picture + 1), np.empty((0, 128))) as (_, changed):
            held = {**fitted.fitted, **changed}["memory_bank"].copy()
        assert len(own) and (held[own][:, None] == others[None]).all(2).any(1).all()
        replacement = np.linalg.norm(held[own] - fitted.memory_bank.numpy()[own], axis=1)
        nearest = np.linalg.norm(fitted.memory_bank.numpy()[own][:, None] - others[None], axis=2).min(1)
        np.testing.assert_allclose(replacement, nearest, rtol=1e-3)
    assert all((value == before[name]).all() for name, value in fitted.fitted.items()), "put back"


def test_save_and_load_give_the_same(fitted: PatchCore, tmp_path: Path) -> None:
    path = fitted.save(tmp_path / "thing.safetensors")
    again = PatchCore.load(path)
    before, after = (list(model.predict(pictures(2, seed=5))) for model in (fitted, again))
    assert [p.score for p in before] == [p.score for p in after]
    assert again.calibration == fitted.calibration
    assert len(list(tmp_path.iterdir())) == 2, "the model and its backbone, nothing else"
    assert again.describe() == fitted.describe()


def test_a_bank_of_fewer_rows_than_neighbours_is_loaded(tmp_path: Path) -> None:
    """Equation 7 takes nine neighbours of a row, and here all rows of the bank are fewer."""
    model = PatchCore(k=2, preprocess=SMALL, arch="compact", weights="random").fit(pictures(2))
    rows = len(model.fitted["memory_bank"])
    assert model.fitted["neighbors"].shape == (rows, rows) and rows < model.options["reweight_neighbors"]
    again = PatchCore.load(model.save(tmp_path / "thing.safetensors"))
    before, after = (list(one.predict(pictures(2, seed=5))) for one in (model, again))
    assert [p.score for p in before] == [p.score for p in after]


def test_paths_and_arrays_are_alike(fitted: PatchCore, data: Path) -> None:
    from deploy.pictures.decode import decode

    path = data / "washer/test/chip/000.png"
    of_path, of_array = fitted.predict([path, decode(path)])
    assert of_path.score == pytest.approx(of_array.score, rel=1e-6)
    assert (of_path.name, of_array.name) == (str(path), "picture 1")


@pytest.mark.parametrize("arch", ARCHS)
def test_stages_of_every_backbone(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """layer1 to layer3 mean strides 4, 8 and 16 everywhere; unread parameters are not asked for."""
    monkeypatch.setattr(
        backbone_module, "nullcontext", backbone_module._zeros
    )  # drawing weights takes most of the time
    backbone = Backbone(arch, ("layer1", "layer2", "layer3"), 64, "random")
    assert [feature.height for feature in backbone.features] == [16, 8, 4]
    assert all(feature.channels > 8 for feature in backbone.features)
    assert not any(name.startswith(("layer4", "fc.", "classifier")) for name in backbone.arrays())


FAMILIES = (
    *("resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "densenet121"),
    *("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0"),
)


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_backbone_fits_and_predicts(arch: str) -> None:
    model = PatchCore(arch, k=10, preprocess=Preprocess(64, 64), weights="random").fit(pictures(2))
    with paddle.no_grad():
        crops = np.stack([model.preprocess.crop(model.preprocess.resized(p)) for p in pictures(2, seed=3)])
        _, score = model(paddle.to_tensor(model.preprocess.normalise(crops)))
    compiled = [prediction.score for prediction in model.predict(pictures(2, seed=3), batch_size=2)]
    np.testing.assert_allclose(compiled, score.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"arch": "resnet9"}, "resnet9"),
        ({"layers": ["layer9"]}, "layer9"),
        ({"k": 0}, "--k 0"),
        ({"k": 100.5}, "--k 100.5"),
        ({"k": float("inf")}, "--k inf"),
        ({"sigma": float("nan")}, "--sigma nan"),
        ({"sampler": "best"}, "--sampler best"),
        ({"patch_size": 2}, "--patch_size 2"),
        ({"image_score": "mean"}, "--image_score mean"),
        ({"reweight_neighbors": 1}, "--reweight_neighbors 1"),
        ({"num_neighbors": 0}, "--num_neighbors 0"),
        ({"coreset_block": 0}, "--coreset_block 0"),
        ({"sigma": -1}, "--sigma -1"),
        ({"score_sigma": -1}, "--score_sigma -1"),
        ({"score_top": 0}, "--score_top 0"),
        ({"score_top": 101}, "--score_top 101"),
        ({"colour": 1}, "colour"),
    ],
)
def test_unusable_arguments_are_named(arguments: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        PatchCore(**{"weights": "random", "preprocess": SMALL, **arguments})


def test_unusable_pictures_are_named() -> None:
    model = PatchCore(arch="compact", weights="random", preprocess=SMALL)
    with pytest.raises(UserError, match="not fitted"):
        model.predict(pictures(1))
    with pytest.raises(UserError, match="not fitted"):
        model.save("nowhere")
    with pytest.raises(UserError, match="at least two"):
        model.fit(pictures(1))
    with pytest.raises(UserError, match="float64"):
        model.fit([np.zeros((50, 50, 3))] * 2)
    with pytest.raises(UserError, match="no/such"):
        model.fit(["no/such.png"] * 2)


def test_registry_names_match() -> None:
    assert all(name == method.NAME for name, method in METHODS.items())


def test_few_of_many_pictures_are_held_out_together() -> None:
    def at_once(count: int, **settings: object) -> int:
        model = PatchCore(arch="compact", weights="random", **{"preprocess": SMALL, "k": 1, **settings})
        return model.held_out(count)

    assert [at_once(n) for n in (2, 79, 80, 159, 160, 5000)] == [1, 1, 2, 2, 4, 4]
    assert at_once(5000, k=5) == 2 and at_once(5000, k=20) == 1, "a product of patches and bank takes most of the time"
    assert at_once(5000, sampler="identity") == 1, "the bank has all patches, whatever k is"
    assert at_once(160, preprocess=Preprocess(None, 64, "tile", overlap=32)) == 1
    model = PatchCore(k=40, preprocess=SMALL, arch="compact", weights="random", sampler="random")
    done: list[range] = []
    hold_out, model.held_out = model.hold_out, lambda pictures: 2
    model.hold_out = lambda held_out, features: (done.append(held_out), hold_out(held_out, features))[1]
    model.fit(pictures(5))
    assert done == [range(0, 2), range(2, 4), range(4, 5)] and model.calibration.pictures == 5
