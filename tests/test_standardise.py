"""PatchCore's channels, divided by a power of their standard deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from threads_group import together

from deploy import Preprocess, UserError
from models import PatchCore
from models.distributed.group import Group
from models.memory_bank.deviation import Deviation

SMALL = Preprocess(112, 96)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (120, 130, 3), dtype=np.uint8) for _ in range(count)]


def make(**options: object) -> PatchCore:
    settings = {"arch": "compact", "layers": ["layer2"], "k": 5, "preprocess": SMALL, "image_score": "density"}
    return PatchCore(**{**settings, "lloyd": 0.5, "standardise": 0.5, **options})


def features_of(model: PatchCore, given: list[np.ndarray]) -> np.ndarray:
    crops = np.stack([SMALL.normalise(SMALL.crop(SMALL.resized(picture))[None])[0] for picture in given])
    with paddle.no_grad():
        return model.embed(paddle.to_tensor(crops)).numpy()


def test_the_deviation_is_that_of_all_patches() -> None:
    patches = np.random.default_rng(0).normal(5, [[[0.0, 1e-3, 1, 40]]], (7, 50, 4)).astype(np.float32)
    found = Deviation(4)
    for picture in patches:
        found.add(picture)
    expected = patches.reshape(-1, 4).astype(np.float64).std(axis=0)
    np.testing.assert_allclose(found.total(Group()), expected + 1e-3 * expected.mean(), rtol=1e-4)
    constant = Deviation(2)
    constant.add(np.ones((5, 2), np.float32))
    assert (constant.total(Group()) > 0).all()

    def of_a_share(group: Group) -> np.ndarray:
        own = Deviation(4)
        for picture in patches[[0, 0, 7][group.rank] : [0, 7, 7][group.rank]]:
            own.add(picture)
        return own.total(group)

    for deviation in together(3, of_a_share):
        np.testing.assert_array_equal(deviation, found.total(Group()))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_distances_are_those_of_scaled_features(share: float) -> None:
    given = pictures(6)
    model = make(standardise=share, lloyd=0, image_score="max", search="exact", sigma=0).fit(given)
    known = features_of(model, given)
    deviation = known.astype(np.float64).std(axis=0)
    scale = (deviation + 1e-3 * deviation.mean()) ** -share
    np.testing.assert_allclose(model.fitted["channel_scale"], scale, rtol=1e-3)
    bank = model.fitted["memory_bank"] + model.fitted["bank_mean"]
    far = np.sqrt(((bank[:, None] - (known * scale)[None]) ** 2).sum(2)).min(1)
    assert far.max() < 1e-3 * np.abs(bank).max(), "rows of the bank are scaled patches"
    [new] = pictures(1, 9)
    query = features_of(model, [new]) * scale
    expected = np.sqrt(((query[:, None] - bank[None]) ** 2).sum(2)).min(1).max()
    [found] = model.predict([new])
    assert found.score == pytest.approx(expected, rel=1e-3)


def test_held_out_scores_are_in_the_scale_of_the_others() -> None:
    """A training picture that is held out scores like a new one, and above what the bank that knows it gives."""
    given = pictures(12)
    model = make().fit(given)
    held_out = np.sort(model.calibration.scores)
    new = [found.score for found in model.predict(pictures(12, 5))]
    assert np.median(held_out) == pytest.approx(np.median(new), rel=0.1)
    assert np.median(held_out) > 1.1 * np.median([found.score for found in model.predict(given)])


def test_saved_updated_and_forgotten_models_keep_their_scale(tmp_path: Path) -> None:
    given = pictures(8)
    model = make().fit(given[:5])
    scale = model.fitted["channel_scale"].copy()
    model.save(tmp_path / "model.safetensors")
    again = PatchCore.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.fitted["channel_scale"], scale)
    again.update(given[5:])
    np.testing.assert_array_equal(again.fitted["channel_scale"], scale)
    bank = again.fitted["memory_bank"] + again.fitted["bank_mean"]
    known = features_of(again, given[5:]) * scale
    rows = int((again.records()["bank_owner"] >= 5).sum())
    assert rows > 0
    again.forget(given[:1])
    np.testing.assert_array_equal(again.fitted["channel_scale"], scale)
    assert np.abs(bank).max() < 1.5 * np.abs(known).max(), "old and new rows have one scale"
    [before] = model.predict(given[5:6])
    [after] = again.predict(given[5:6])
    assert after.score < before.score, "the new picture is known now"


def test_unusable_shares_are_named() -> None:
    for share in (-0.1, 1.5):
        with pytest.raises(UserError, match=f"--standardise {share:g} must be 0 to 1"):
            make(standardise=share)
    assert "channel_scale" not in make(standardise=0.0).statistics()
