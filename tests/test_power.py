"""Power normalisation: features raised to 0.75 or 0.5, in the graph of every method that has the option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from deploy import Preprocess, UserError
from models import OrthoAD, PaDiM, PatchCore
from models.base.method import AnomalyMethod
from models.graph.power import POWERS, check_power, normalised
from models.graph.resample import nearest_matrix

SMALL = Preprocess(112, 96)


def literal(values: np.ndarray, power: float) -> np.ndarray:
    return np.sign(values) * np.abs(values) ** power


@pytest.mark.parametrize("power", POWERS)
def test_magnitudes_are_raised_and_signs_kept(power: float) -> None:
    values = np.random.default_rng(0).normal(0, 3, (3, 5, 7)).astype(np.float32)
    values[0, 0, :3] = 0, 1e4, -1e-4
    found = normalised(paddle.to_tensor(values), power).numpy()
    np.testing.assert_allclose(found, literal(values, power), rtol=1e-5)


@pytest.mark.parametrize("power", [0, 0.6, 2, -0.5])
@pytest.mark.parametrize("method", [PatchCore, PaDiM, OrthoAD])
def test_other_powers_are_refused(method: type[AnomalyMethod], power: float) -> None:
    with pytest.raises(UserError, match=f"--power {power:g}: choose one of 1, 0.75, 0.5"):
        method(arch="compact", weights="random", preprocess=SMALL, power=power)
    with pytest.raises(UserError, match="--power"):
        check_power(power)


def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (120, 130, 3), dtype=np.uint8)


def entered() -> paddle.Tensor:
    return paddle.to_tensor(SMALL.normalise(SMALL.crop(SMALL.resized(picture()))[None]))


@pytest.mark.parametrize("power", [0.75, 0.5])
def test_patchcores_averaged_features_are_raised(power: float) -> None:
    made = [PatchCore(arch="compact", preprocess=SMALL, power=one) for one in (1.0, power)]
    plain, found = (model.embed(entered()).numpy() for model in made)
    assert plain.min() < 0 < plain.max()
    np.testing.assert_allclose(found, literal(plain, power), rtol=1e-4, atol=1e-5)


def test_padims_and_orthoads_features_are_raised_before_they_are_projected() -> None:
    model = PaDiM(arch="compact", layers=["layer1"], k=10, preprocess=SMALL, power=0.5)
    [output] = model.backbone(entered())
    root = literal(output.numpy()[0].reshape(output.shape[1], -1).T, 0.5)
    np.testing.assert_allclose(model.embed(entered()).numpy(), root[:, model.projection.numpy()], rtol=1e-4, atol=1e-5)
    model = OrthoAD(arch="compact", layers=["layer1", "layer2"], k=10, preprocess=SMALL, power=0.5)
    first, second = (literal(output.numpy()[0], 0.5) for output in model.backbone(entered()))
    up = nearest_matrix(first.shape[1], second.shape[1])
    both = np.concatenate([first, np.einsum("yh,chw,xw->cyx", up, second, up)])
    expected = both.reshape(len(both), -1).T @ model.projection.numpy()
    np.testing.assert_allclose(model.embed(entered()).numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [PatchCore, PaDiM, OrthoAD])
def test_a_fitted_model_is_of_its_power(method: type[AnomalyMethod], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    items = [random.integers(0, 256, (120, 130, 3), dtype=np.uint8) for _ in range(4)]
    settings = {"arch": "compact", "layers": ["layer2"], "k": 20, "preprocess": SMALL}
    plain, rooted = (method(**settings, power=power).fit(items) for power in (1.0, 0.5))
    [before], [after] = (model.predict([picture()]) for model in (plain, rooted))
    assert not np.allclose(before.anomaly_map, after.anomaly_map, rtol=0.05)
    rooted.save(tmp_path / "model.safetensors")
    [again] = method.load(tmp_path / "model.safetensors").predict([picture()])
    np.testing.assert_array_equal(again.anomaly_map, after.anomaly_map)
