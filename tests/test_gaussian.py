"""PaDiM and OrthoAD against literal numpy versions of their equations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import done
from scipy.ndimage import gaussian_filter

from deploy import Preprocess, UserError
from models import OrthoAD, PaDiM
from models.base import gaussian
from models.base.gaussian import GaussianMethod
from models.graph.resample import bilinear_matrix

SMALL = Preprocess(64, 64)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (70, 80, 3), dtype=np.uint8) for _ in range(count)]


def literal_features(model: GaussianMethod, items: list[np.ndarray]) -> np.ndarray:
    """All layers by nearest neighbour on the first one's grid, concatenated, then reduced: [pictures, positions, k]."""
    crops = SMALL.normalise(np.stack([SMALL.crop(SMALL.resized(item)) for item in items]))
    with paddle.no_grad():
        outputs = [output.numpy().astype(np.float64) for output in model.backbone(paddle.to_tensor(crops))]
    side = outputs[0].shape[2]
    full = np.concatenate([o.repeat(side // o.shape[2], 2).repeat(side // o.shape[3], 3) for o in outputs], axis=1)
    flat = full.reshape(len(items), full.shape[1], -1).transpose(0, 2, 1)
    projection = model.projection.numpy()
    return flat[..., projection] if projection.ndim == 1 else flat @ projection


def literal_distances(model: GaussianMethod, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Equation 2 of PaDiM, position by position: [pictures, positions]."""
    found = np.empty(test.shape[:2])
    for position in range(test.shape[1]):
        mean = train[:, position].mean(0)
        covariance = np.cov(train[:, position], rowvar=False) + model.options["eps"] * np.eye(model.k)
        offset = test[:, position] - mean
        found[:, position] = np.sqrt((offset @ np.linalg.inv(covariance) * offset).sum(1))
    return found


CASES = [
    (PaDiM, {}),
    (PaDiM, {"channels": "even", "image_score": "max"}),
    (OrthoAD, {"image_score": "top"}),
    (PaDiM, {"image_score": "top", "score_sigma": 1.5, "score_top": 5.0}),
    (OrthoAD, {"orthogonal": "svd", "eps": 0.3, "sigma": 2.0}),
    (OrthoAD, {"orthogonal": "none"}),
]


@pytest.mark.parametrize(("method", "options"), CASES)
def test_scores_equal_the_papers_equations(method: type[GaussianMethod], options: dict) -> None:
    model = method(k=20, preprocess=SMALL, arch="compact", weights="random", **options).fit(pictures(40), batch_size=7)
    train, test = literal_features(model, pictures(40)), literal_features(model, pictures(3, seed=9))
    rows = bilinear_matrix(64, model.grid[0]).astype(np.float64)
    for distances, prediction in zip(literal_distances(model, train, test), model.predict(pictures(3, seed=9), 3)):
        expected = gaussian_filter(rows @ distances.reshape(model.grid) @ rows.T, model.options["sigma"])
        np.testing.assert_allclose(prediction.anomaly_map, expected, rtol=2e-3)
        top = max(1, round(model.options["score_top"] / 100 * distances.size))
        if model.options["score_sigma"]:
            distances = gaussian_filter(distances.reshape(model.grid), model.options["score_sigma"], truncate=2).ravel()
        score = {"smooth": expected.max(), "max": distances.max(), "top": np.sort(distances)[-top:].mean()}
        assert prediction.score == pytest.approx(score[model.options["image_score"]], rel=2e-3)


def whitening(statistics: dict[str, np.ndarray]) -> np.ndarray:
    """All parts together: [positions, k, k], upper triangular."""
    parts = [part for name, part in statistics.items() if name.startswith("whitening")]
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, parts[-1].shape[1] - part.shape[1]), (0, 0))) for part in parts], 2
    )


def test_statistics_do_not_depend_on_the_batches() -> None:
    one, many = (
        PaDiM(k=15, preprocess=SMALL, arch="compact", weights="random").fit(pictures(20), batch_size=b) for b in (20, 3)
    )
    np.testing.assert_allclose(one.position_mean.numpy(), many.position_mean.numpy(), rtol=1e-4, atol=1e-5)
    first, other = whitening(one.fitted), whitening(many.fitted)
    np.testing.assert_allclose(first, other, atol=1e-3 * np.abs(first).max())


def test_accumulation_is_sound_far_from_zero() -> None:
    """Sums of squares would lose everything here: the mean is 10,000 times the spread."""
    model = PaDiM(k=6, preprocess=SMALL, arch="compact", weights="random", eps=1e-6)
    values = 1e4 + np.random.default_rng(0).normal(size=(60, model.positions, 6))
    model.start_fit(60)
    for start in range(0, 60, 8):
        model.partial_fit(values[start : start + 8].reshape(-1, 6).astype(np.float32))
    scatter = model._scatter[5] / 59
    np.testing.assert_allclose(scatter, np.cov(values[:, 5].astype(np.float32), rowvar=False), atol=5e-3)


def test_held_out_distances_equal_a_fit_without_the_picture() -> None:
    model = PaDiM(k=12, preprocess=SMALL, arch="compact", weights="random").fit(pictures(30))
    features = literal_features(model, pictures(30))
    several = range(7, 10)
    with model.hold_out(several, features[7:10].reshape(-1, 12).astype(np.float32)) as (stretched, changed):
        offset = stretched.reshape(3, -1, 1, 12) - model.fitted["position_mean"][:, None]
    assert not changed
    found = np.linalg.norm((offset @ whitening(model.fitted))[:, :, 0], axis=2)
    for picture, distances in zip(several, found):
        rest = np.delete(features, picture, axis=0)
        expected = literal_distances(model, rest, features[picture : picture + 1])[0]
        np.testing.assert_allclose(distances, expected, rtol=0.05)


def test_distances_without_several_pictures_are_those_of_a_fit_on_the_others() -> None:
    model = PaDiM(k=6, preprocess=SMALL, arch="compact", weights="random", eps=1e-6)
    values = np.random.default_rng(0).normal(size=(20, model.positions, 6)).astype(np.float32)
    model.start_fit(20)
    model.partial_fit(values.reshape(-1, 6))
    model.load_statistics(model.finish_fit())
    model.end_fit()
    stretch = model._without_group(values[:4] - model.fitted["position_mean"])
    known = values.astype(np.float64)
    expected = literal_distances(model, known[4:], known[:4]) / literal_distances(model, known, known[:4])
    np.testing.assert_allclose(stretch, expected, rtol=2e-3)


def test_projections() -> None:
    even = PaDiM(k=20, preprocess=SMALL, weights="random", channels="even").projection.numpy()
    assert [((even >= a) & (even < b)).sum() for a, b in ((0, 64), (64, 192), (192, 448))] == [7, 7, 6]
    for way in ("qr", "svd"):
        matrix = OrthoAD(k=20, preprocess=SMALL, weights="random", orthogonal=way).projection.numpy()
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(20), atol=1e-5)
    first, again, other = (
        PaDiM(k=20, preprocess=SMALL, weights="random", seed=s).projection.numpy() for s in (1, 1, 2)
    )
    assert (first == again).all() and (first != other).any()
    assert len(np.unique(first)) == 20


@pytest.mark.parametrize("method", [PaDiM, OrthoAD])
def test_a_given_projection_is_used_and_travels_with_the_model(method: type[GaussianMethod], tmp_path: Path) -> None:
    given = method(k=9, preprocess=SMALL, arch="compact", weights="random", seed=77).projection.numpy()
    path = tmp_path / "p.npy"
    np.save(path, given)
    model = method(k=9, preprocess=SMALL, arch="compact", weights="random", load_projection=str(path)).fit(pictures(12))
    assert (model.projection.numpy() == given).all()
    saved = model.save(tmp_path / "model.safetensors")
    path.unlink()
    again = method.load(saved)
    assert [p.score for p in again.predict(pictures(1))] == [p.score for p in model.predict(pictures(1))]


def test_models_whose_whitening_has_other_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(gaussian, "PARTS", 2)
        path = PaDiM("compact", k=10, preprocess=SMALL).fit(pictures(3)).save(tmp_path / "padim.safetensors")
    with pytest.raises(UserError, match="its whitening_0 is .*: it is damaged, or of an older version; train it again"):
        PaDiM.load(path)


@pytest.mark.parametrize(
    ("method", "options", "word"),
    [
        (PaDiM, {"k": 449}, "448 channels"),
        (PaDiM, {"k": 2.5}, "--k 2.5"),
        (OrthoAD, {"k": 0}, "--k 0"),
        (PaDiM, {"eps": 0}, "--eps"),
        (PaDiM, {"image_score": "reweighted"}, "smooth, max, top"),
        (PaDiM, {"channels": "odd"}, "--channels odd"),
        (OrthoAD, {"orthogonal": "odd"}, "--orthogonal odd"),
        (PaDiM, {"k": 300, "channels": "even"}, "layer1"),
        (PaDiM, {"patch_size": 3}, "patch_size"),
        (PaDiM, {"load_projection": "no/such.npy"}, "no/such.npy"),
    ],
)
def test_unusable_arguments_are_named(method: type[GaussianMethod], options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        method(**{"k": 10, "weights": "random", "preprocess": SMALL, **options})


def test_an_eps_below_rounding_errors_is_named() -> None:
    for eps in (1e-12, 1e-9):
        model = PaDiM(arch="compact", k=20, eps=eps, weights="random", preprocess=SMALL)
        with pytest.raises(UserError, match=f"--eps {eps:g} is too small"):
            model.fit(pictures(4))


def test_projections_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    for method, array in (
        (PaDiM, np.arange(9)),
        (PaDiM, np.zeros(10, int)),
        (PaDiM, np.arange(10) + 440),
        (OrthoAD, np.zeros((448, 10))),
        (OrthoAD, np.zeros((10, 448))),
    ):
        np.save(path, array)
        with pytest.raises(UserError, match="--load_projection"):
            method(k=10, arch="compact", weights="random", preprocess=SMALL, load_projection=str(path))


MEMORY = """
import resource, sys
from pathlib import Path
from deploy import Preprocess
from models import METHODS
pictures = sorted(Path(sys.argv[2]).iterdir()) * int(sys.argv[3])
METHODS[sys.argv[1]]("compact", k=100, preprocess=Preprocess(128, 128), weights="random").fit(pictures)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.once
@pytest.mark.parametrize("name", ["padim", "orthoad"])
def test_memory_does_not_grow_with_the_pictures(name: str, data: Path, run_warm: Callable) -> None:
    """Peak memory of a process that fits 24 and 96 pictures."""
    folder = data / "washer/train/good"
    count = len(list(folder.iterdir()))
    runs = [done(run_warm("-c", MEMORY, name, folder, times * 24 // count)) for times in (1, 4)]
    few, many = (int(result.stdout.splitlines()[-1]) for result in runs)
    assert many < 1.1 * few
