"""Coarse-to-fine search: what it promises of every distance, against the exact search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from deploy import Preprocess, UserError
from models.graph.scores import ImageScore
from models.memory_bank.held_out import replace_rows, rows_replaced
from models.memory_bank.neighbours import least_spacing, neighbours
from models.memory_bank.search import (
    FEW,
    LEAST,
    LEAST_WORST,
    SEGMENT,
    WORST,
    WORST_RELATIVE,
    CoarseSearch,
    coarse_tables,
    distance_to,
    exact_nearest,
    worst_count,
)
from models.patchcore import PatchCore

POSITIONS = 144
GRID = (12, 12)
SMALL = Preprocess(112, 96)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (120, 130, 3), dtype=np.uint8) for _ in range(count)]


def bank_of(rows: int, channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows in clusters, with most of their spread on a few axes as features have it; and half norms."""
    random = np.random.default_rng(seed)
    scale = 1 / (1 + np.arange(channels)) ** 0.5
    centres = random.standard_normal((max(1, rows // 30), channels)) * scale
    bank = centres[random.integers(len(centres), size=rows)] + 0.3 * random.standard_normal((rows, channels)) * scale
    bank = (bank - bank.mean(0)).astype(np.float32)
    return bank, ((bank.astype(np.float64) ** 2).sum(1) / 2).astype(np.float32)


def score_of(score_sigma: float) -> ImageScore:
    return ImageScore({"image_score": "top", "score_sigma": score_sigma, "score_top": 1}, GRID)


def searched(
    bank: np.ndarray,
    half_norms: np.ndarray,
    query: np.ndarray,
    tables: dict[str, np.ndarray],
    *least_unit: np.ndarray,
    score_sigma: float = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coarse rows and distances, and exact distances."""
    arrays = [paddle.to_tensor(value) for value in (query, bank, half_norms, *tables.values(), *least_unit)]
    nearest, distance = CoarseSearch(bank.shape[1], score_of(score_sigma))(*arrays)
    exact = distance_to(arrays[0], arrays[1], exact_nearest(*arrays[:3]))
    return nearest.numpy(), distance.numpy(), exact.numpy()


@pytest.mark.parametrize(("rows", "channels"), [(2000, 120), (777, 60), (LEAST - 1, 30), (1, 5), (65, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_distances_are_to_real_rows_and_the_largest_are_exact(rows: int, channels: int, batch: int) -> None:
    bank, half_norms = bank_of(rows, channels)
    query = bank_of(batch * POSITIONS, channels, seed=1)[0] * 1.3
    nearest, distance, exact = searched(bank, half_norms, query, coarse_tables(bank))
    assert nearest.min() >= 0 and nearest.max() < rows
    np.testing.assert_allclose(distance, np.linalg.norm(query - bank[nearest], axis=1), rtol=1e-5)
    assert (distance >= exact * (1 - 1e-5)).all(), "an upper bound of the true distance"
    assert (distance / exact).mean() < 1.02
    for ours, true in zip(distance.reshape(batch, -1), exact.reshape(batch, -1)):
        order = np.argsort(-ours)[: LEAST_WORST // 2]
        np.testing.assert_allclose(ours[order], true[order], rtol=1e-5)


def test_the_exact_step_is_what_makes_the_largest_exact() -> None:
    """Without main axes worth the name the coarse steps err, and the score still does not."""
    random = np.random.default_rng(0)
    bank = random.standard_normal((1500, 300)).astype(np.float32)
    half_norms = ((bank**2).sum(1) / 2).astype(np.float32)
    query = random.standard_normal((POSITIONS, 300)).astype(np.float32)
    query[7] *= 3
    _, distance, exact = searched(bank, half_norms, query, coarse_tables(bank))
    assert (distance > exact * 1.001).any(), "this data does not try the coarse steps"
    assert distance.max() == pytest.approx(exact.max(), rel=1e-6)


def test_patches_are_searched_exactly_that_may_be_worst_in_another_rows_unit() -> None:
    random = np.random.default_rng(0)
    bank = random.standard_normal((1500, 300)).astype(np.float32)
    half_norms = ((bank**2).sum(1) / 2).astype(np.float32)
    query = random.standard_normal((POSITIONS, 300)).astype(np.float32)
    nearest, distance, exact = searched(bank, half_norms, query, coarse_tables(bank))
    wrong = np.flatnonzero(distance > exact * 1.001)
    patch = wrong[distance[wrong].argmin()]
    assert distance[patch] < np.sort(distance)[-LEAST_WORST], "its distance alone does not tell"
    least = np.ones(len(bank), np.float32)
    least[nearest[patch]] = 0.5
    found = searched(bank, half_norms, query, coarse_tables(bank), least)[1]
    assert found[patch] == pytest.approx(exact[patch], rel=1e-6)


def test_patches_are_searched_exactly_whose_neighbours_decide_the_score() -> None:
    """The score smooths distances, so the patches around the largest smoothed distances must be exact as well."""
    random = np.random.default_rng(0)
    bank = random.standard_normal((1500, 300)).astype(np.float32)
    half_norms = ((bank**2).sum(1) / 2).astype(np.float32)
    query = random.standard_normal((POSITIONS, 300)).astype(np.float32)
    query[POSITIONS // 2 + 6] *= 4  # in the middle
    window = np.add.outer([-12, 0, 12], [-1, 0, 1]).ravel() + POSITIONS // 2 + 6
    _, alone, exact = searched(bank, half_norms, query, coarse_tables(bank))
    assert (alone[window] > exact[window] * 1.001).any(), "without smoothing, only the largest distances are exact"
    _, smoothed, _ = searched(bank, half_norms, query, coarse_tables(bank), score_sigma=0.7)
    np.testing.assert_allclose(smoothed[window], exact[window], rtol=1e-6)


def test_the_least_unit_is_of_the_row_and_those_around_it() -> None:
    bank = np.array([[0.0], [1], [3], [7], [15]], np.float32)
    near, _ = neighbours(bank, (bank[:, 0] ** 2) / 2, np.array([0, 1, 0, 1, 0]), 3)
    unit = np.array([5, 4, 3, 2, 1], np.float32)
    np.testing.assert_array_equal(least_spacing(unit, near), [3, 3, 3, 2, 1])


def test_more_patches_of_larger_pictures_are_searched_exactly() -> None:
    assert [worst_count(WORST_RELATIVE * 0.01, positions) for positions in (9, 144, 784, 1600)] == [9, 32, 125, 256]
    for positions in (784, 1600, 9984):
        assert worst_count(WORST * 0.01, positions) > 2 * 0.01 * positions, "twice those that the score is of"


def test_coarse_nearness_is_close_to_the_true_one() -> None:
    bank, half_norms = bank_of(500, 300)
    query = bank_of(50, 300, seed=2)[0]
    tables = coarse_tables(bank)
    main = query @ tables["coarse_axes"].T
    left = np.sqrt(np.maximum((query**2).sum(1) - (main**2).sum(1), 0))
    coarse = np.concatenate([main, left[:, None], np.ones((50, 1))], 1) @ tables["coarse_bank"].swapaxes(1, 2)
    true = (query @ bank.T - half_norms)[:, tables["coarse_rows"].T].swapaxes(0, 1)
    assert coarse.shape == true.shape == (LEAST, 50, 16)
    assert np.corrcoef(coarse.ravel(), true.ravel())[0, 1] > 0.99


def test_segments_hold_every_row() -> None:
    for count, segments in ((1003, LEAST), (SEGMENT * LEAST + 1, LEAST + 1)):
        bank, half_norms = bank_of(count, 64)
        tables = coarse_tables(bank)
        rows = tables["coarse_rows"]
        assert rows.shape == (-(-count // segments), segments) and set(rows.ravel()) == set(range(count))
    np.testing.assert_allclose(tables["coarse_bank"][..., -1], -half_norms[rows.T])


def test_replaced_rows_are_those_of_a_bank_that_was_built_so() -> None:
    bank, half_norms = bank_of(100, 20)
    tables = coarse_tables(bank)
    rows = np.arange(100)
    rows[[3, 50]] = [4, 51]
    moved = replace_rows(tables, rows, rows[:0], bank[:0])
    assert list(moved) == ["coarse_bank"]
    main = (bank[rows] @ tables["coarse_axes"].T)[tables["coarse_rows"].T]
    np.testing.assert_allclose(moved["coarse_bank"][..., : main.shape[2]], main, atol=1e-5)
    np.testing.assert_allclose(moved["coarse_bank"][..., -1], -half_norms[rows][tables["coarse_rows"].T])


def test_rows_are_replaced_with_all_that_belongs_to_them_until_the_end() -> None:
    bank, half_norms = bank_of(60, 8)
    random = np.random.default_rng(1)
    fitted = {"memory_bank": bank, "half_norms": half_norms, "neighbors": random.integers(0, 60, (60, 3))}
    fitted |= {name: random.random(60, np.float32) for name in ("spacing", "least_spacing")}
    before = {name: value.copy() for name, value in fitted.items()}
    rows, others, value = np.array([3, 50]), np.array([4, 51]), np.ones((1, 8), np.float32)
    with rows_replaced(fitted, rows, others, np.array([4]), value) as tables:
        assert not tables, "there is no coarse search"
        np.testing.assert_array_equal(fitted["memory_bank"][[3, 4, 50]], [value[0], value[0], bank[51]])
        assert list(fitted["half_norms"][[3, 4]]) == [4, 4]
        for name in ("neighbors", "spacing", "least_spacing"):
            np.testing.assert_array_equal(fitted[name][rows], before[name][others], name)
    for name, value in before.items():
        np.testing.assert_array_equal(fitted[name], value, name)


def test_textures_have_right_scores_and_maps() -> None:
    """Features that lie in no groups; a search by groups of near rows erred by .18 here."""
    random = np.random.default_rng(3)
    scale = 1 / (1 + np.arange(200)) ** 0.8
    bank = (random.standard_normal((12000, 200)) * scale).astype(np.float32)
    query = (random.standard_normal((8 * POSITIONS, 200)) * scale).astype(np.float32)
    half_norms = ((bank**2).sum(1) / 2).astype(np.float32)
    _, distance, exact = searched(bank, half_norms, query, coarse_tables(bank))
    distance, exact = distance.reshape(8, -1), exact.reshape(8, -1)
    np.testing.assert_allclose(distance.max(1), exact.max(1), rtol=1e-5)
    assert ((distance - exact).max(1) / exact.max(1)).max() < 0.05


@pytest.mark.parametrize("score_sigma", [0, 0.7])
@pytest.mark.parametrize("image_score", ["reweighted", "max", "top", "density"])
def test_both_searches_give_equal_image_scores(image_score: str, score_sigma: float) -> None:
    scores, maps = [], []
    for search in ("exact", "coarse"):
        options = {"search": search, "image_score": image_score, "score_sigma": score_sigma}
        model = PatchCore("compact", k=60, preprocess=SMALL, weights="random", **options).fit(pictures(6))
        found = list(model.predict(pictures(4, seed=9), 2))
        scores.append([prediction.score for prediction in found])
        maps.append(np.stack([prediction.anomaly_map for prediction in found]))
        assert model.header["options"]["search"] == search
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    assert np.abs(maps[1] - maps[0]).max() < 0.05 * maps[0].max()


def test_several_neighbours_are_searched_exactly() -> None:
    assert PatchCore(preprocess=SMALL, arch="compact", weights="random", num_neighbors=2).options["search"] == "exact"
    assert PatchCore(preprocess=SMALL, arch="compact", weights="random", score_top=4).options["search"] == "exact"
    assert PatchCore(preprocess=SMALL, arch="compact", weights="random").options["search"] is None
    for options, word in (
        ({"search": "coarse", "num_neighbors": 2}, "--num_neighbors 2"),
        ({"search": "x"}, "--search x"),
    ):
        with pytest.raises(UserError, match=word):
            PatchCore(preprocess=SMALL, arch="compact", weights="random", **options)


def test_the_number_of_rows_decides_the_search(tmp_path: Path) -> None:
    """Also when an update or a picture that is forgotten changes the number; a loaded model follows."""
    assert FEW == 1000 and 20 * POSITIONS > FEW > 6 * POSITIONS
    given = pictures(20)
    model = PatchCore("compact", k=100, preprocess=SMALL, weights="random", image_score="density").fit(given[:6])
    assert len(model.fitted["memory_bank"]) <= FEW and "coarse_bank" not in model.fitted
    before = [prediction.score for prediction in model.predict(given[:3])]
    model = PatchCore.load(model.save(tmp_path / "few.safetensors"))
    assert [prediction.score for prediction in model.predict(given[:3])] == before
    model.update(given[6:])
    assert len(model.fitted["memory_bank"]) > FEW and "coarse_bank" in model.fitted
    after = [prediction.score for prediction in model.predict(given[:3])]
    model = PatchCore.load(model.save(tmp_path / "many.safetensors"))
    assert "coarse_bank" in model.fitted and model.header["options"]["search"] is None
    assert [prediction.score for prediction in model.predict(given[:3])] == after
    model.forget(given[5:])
    assert "coarse_bank" not in model.fitted
    assert "coarse_bank" not in PatchCore.load(model.save(tmp_path / "few.safetensors")).fitted
