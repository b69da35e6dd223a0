"""Bank rows that move towards the mean of their patches, and what they are without a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_patchcore import SMALL, pictures

from deploy import UserError
from models import PatchCore
from models.memory_bank import clusters
from models.memory_bank.clusters import Clusters
from models.memory_bank.search import coarse_form, half_norms_of

PICTURES, POSITIONS, CHANNELS = 9, 40, 12


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((PICTURES, POSITIONS, CHANNELS)).astype(np.float32)


def clusters_of(bank: np.ndarray, owner: np.ndarray, share: float, patches: np.ndarray, together: int = 1) -> Clusters:
    """Of a bank over all patches."""

    def numbered(picture: int) -> tuple[int, np.ndarray]:
        return picture * POSITIONS, patches[picture]

    everything = range(PICTURES), PICTURES, PICTURES * POSITIONS
    return Clusters(bank, owner // together, share, numbered, *everything, together=together)


def expected(bank: np.ndarray, patches: np.ndarray, share: float) -> np.ndarray:
    """By the definition, one row at a time."""
    all_patches = patches.reshape(-1, patches.shape[-1])
    nearest = ((all_patches[:, None] - bank[None]) ** 2).sum(2).argmin(1)
    moved = bank.copy()
    for row in range(len(bank)):
        if (nearest == row).any():
            moved[row] = (1 - share) * bank[row] + share * all_patches[nearest == row].mean(0)
    return moved


@pytest.mark.once
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rows_move_towards_the_mean_of_the_patches_nearest_to_them(patches: np.ndarray, share: float) -> None:
    bank = np.concatenate([patches.reshape(-1, CHANNELS)[::31], np.full((1, CHANNELS), 90, np.float32)])
    step = clusters_of(bank, np.arange(len(bank)), share, patches)
    np.testing.assert_allclose(step.moved(), expected(bank, patches, share), atol=1e-5)
    assert (step.moved()[-1] == 90).all(), "no patch is nearest to it"
    for first in range(PICTURES - 1):
        held_out = range(first, first + 1 + first % 2)
        rows, values = step.without(held_out, patches[held_out].reshape(-1, CHANNELS))
        alone = step.moved()
        alone[rows] = values
        others = np.delete(patches, held_out, axis=0)
        np.testing.assert_allclose(alone, expected(bank, others, share), atol=1e-5)
        assert 0 < len(rows) < len(bank)


@pytest.mark.once
def test_small_banks_look_at_some_pictures(patches: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "PATCHES", 30)
    bank = patches.reshape(-1, CHANNELS)[:4]
    step = clusters_of(bank, np.arange(4), 0.5, patches)
    np.testing.assert_allclose(step.moved(), expected(bank, patches[::3], 0.5), atol=1e-5)
    assert len(step.without(range(1, 2), patches[1])[0]) == 0 < len(step.without(range(3, 4), patches[3])[0])
    both = patches[2:4].reshape(-1, CHANNELS)
    for found, wanted in zip(step.without(range(2, 4), both), step.without(range(3, 4), patches[3])):
        np.testing.assert_array_equal(found, wanted, "the third picture was not looked at")


@pytest.mark.once
@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_farthest_patch_of_another_picture_stands_in_for_a_row(
    patches: np.ndarray, share: float, together: int
) -> None:
    """By the definition, one row at a time; a row that stands for its own picture's patches alone has none."""
    every = patches.reshape(-1, CHANNELS)
    chosen = np.arange(0, len(every), 7)
    far = np.full((1, CHANNELS), 90, np.float32)
    bank, owner = np.concatenate([every[chosen], far]), np.append(chosen // POSITIONS, 0)
    rows, found = clusters_of(bank, owner, share, patches, together).farthest_patches()
    distances = ((every[:, None] - bank[None]) ** 2).sum(2)
    nearest, picture = distances.argmin(1), np.arange(len(every)) // POSITIONS
    for row in range(len(bank)):
        others = np.flatnonzero((nearest == row) & (picture // together != owner[row] // together))
        assert (row in rows) == bool(len(others))
        if len(others):
            assert found[rows == row] == others[distances[others, row].argmax()]
    assert 10 < len(rows) < len(bank)


@pytest.mark.parametrize("together", [1, 2])
def test_held_out_statistics_hold_nothing_of_the_pictures(together: int) -> None:
    options = {"lloyd": 0.5, "image_score": "density", "search": "coarse"}
    model = PatchCore(k=20, preprocess=SMALL, arch="compact", weights="random", **options)
    step: list[Clusters] = []
    model.end_fit = lambda: step.append(model._held_out.clusters)
    model.held_out = lambda pictures: together
    model.fit(pictures(6))
    bank, owner = model.fitted["memory_bank"].copy(), model._owner
    before = {name: value.copy() for name, value in model.fitted.items()}
    centred = [model.training_features(range(i, i + 1)) - before["bank_mean"] for i in range(6)]
    everything, (replaced, numbers) = model.training_features(range(6)), step[0].farthest_patches()
    np.testing.assert_allclose(bank, step[0].moved(), atol=1e-5)
    for first in range(0, 6, together):
        held_out = range(first, first + together)
        with model.hold_out(held_out, model.training_features(held_out)) as (_, changed):
            held = {name: value.copy() for name, value in {**model.fitted, **changed}.items()}
        rows, values = step[0].without(held_out, np.concatenate([centred[picture] for picture in held_out]))
        wanted = bank.copy()
        wanted[rows] = values
        own = np.flatnonzero(np.isin(owner, held_out))
        assert not np.isin(owner[model._replacement[own]], held_out).any()
        wanted[own] = wanted[model._replacement[own]]
        here = np.isin(replaced, own)
        wanted[replaced[here]] = everything[numbers[here]] - before["bank_mean"]
        assert not np.isin(numbers[here] // model.positions, held_out).any() and here.any()
        np.testing.assert_allclose(held["memory_bank"], wanted, atol=1e-5)
        np.testing.assert_allclose(held["half_norms"], half_norms_of(held["memory_bank"]), rtol=1e-5)
        form = coarse_form(held["memory_bank"], held["coarse_axes"].T)
        off = np.abs(held["coarse_bank"] - form[held["coarse_rows"].T])
        assert off.max() < 1e-3
        assert len(own) and len(rows) > len(own) and np.abs(wanted - bank).max() > 0.01
    assert all((value == before[name]).all() for name, value in model.fitted.items()), "put back"


def test_the_share_is_checked_and_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--lloyd 1.5 must be 0 to 1"):
        PatchCore(preprocess=SMALL, arch="compact", weights="random", lloyd=1.5)
    model = PatchCore(k=20, preprocess=SMALL, arch="compact", weights="random", lloyd=0.5).fit(pictures(4))
    again = PatchCore.load(model.save(tmp_path / "thing.safetensors"))
    assert again.options["lloyd"] == 0.5
    before, after = (list(one.predict(pictures(2, seed=5))) for one in (model, again))
    assert [p.score for p in before] == [p.score for p in after]
