"""The pruned coreset against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from models.coreset import BLOCK, SAMPLERS, farthest_first, greedy_coreset, k_center, project, sample


def brute_force(points: np.ndarray, count: int, first: int) -> list[int]:
    """Algorithm 1 of the paper as it reads, in double precision."""
    points = points.astype(np.float64)
    chosen = [first]
    distance = ((points - points[first]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen


@pytest.mark.parametrize("kind", ["cloud", "clusters", "grid"])
def test_selection_equals_brute_force(kind: str) -> None:
    random = np.random.default_rng(1)
    points = random.normal(size=(3000, 2 * BLOCK)).astype(np.float32)
    if kind == "clusters":
        points = (
            points * 0.05 + 4 * random.normal(size=(20, 2 * BLOCK)).astype(np.float32)[random.integers(20, size=3000)]
        )
    if kind == "grid":  # whole numbers: distances are exact and ties are everywhere
        points = random.integers(0, 3, size=(3000, 2 * BLOCK)).astype(np.float32)
    assert k_center(points, 600, 17).tolist() == brute_force(points, 600, 17)


def test_first_centre_is_kept_and_none_comes_twice() -> None:
    points = np.random.default_rng(2).normal(size=(500, BLOCK)).astype(np.float32)
    chosen = k_center(points, 500, 123)
    assert chosen[0] == 123
    assert sorted(chosen) == list(range(500))


def test_copies_are_left_out() -> None:
    points = np.repeat(np.random.default_rng(3).normal(size=(40, BLOCK)), 5, axis=0).astype(np.float32)
    chosen = k_center(points, 200, 0)
    assert len(chosen) == 40
    assert len(np.unique(points[chosen], axis=0)) == 40


def test_approximate_selection_equals_its_definition() -> None:
    points = np.random.default_rng(6).integers(0, 9, size=(700, BLOCK)).astype(np.float32)
    mean = np.mean([np.linalg.norm(points - points[start], axis=1) for start in (3, 99, 500)], axis=0)
    squared = (mean**2).astype(np.float32)
    expected, distance = [], squared.astype(np.float64)
    for _ in range(100):
        expected.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[expected[-1]]) ** 2).sum(1))
    assert farthest_first(points, 100, squared.copy()).tolist() == expected


def test_samplers_choose_as_many_as_asked() -> None:
    features = np.random.default_rng(7).normal(size=(400, 40)).astype(np.float32)
    for sampler in SAMPLERS:
        chosen = sample(features, 50, 1, sampler)
        assert len(np.unique(chosen)) == len(chosen) == (400 if sampler == "identity" else 50)
        assert chosen.tolist() == sample(features, 50, 1, sampler).tolist()


def test_projection_keeps_distances_and_seed_decides() -> None:
    features = np.random.default_rng(4).normal(size=(800, 50)).astype(np.float32)
    turned = project(features, np.random.default_rng(0))  # below 128 channels nothing is projected, only turned
    assert turned.shape == (800, 64)
    before = np.linalg.norm(features[:100] - features[100:200], axis=1)
    np.testing.assert_allclose(np.linalg.norm(turned[:100] - turned[100:200], axis=1), before, rtol=1e-4)
    wide = np.random.default_rng(5).normal(size=(800, 300)).astype(np.float32)
    ratio = np.linalg.norm(np.diff(project(wide, np.random.default_rng(0))[:200], axis=0), axis=1) / np.linalg.norm(
        np.diff(wide[:200], axis=0), axis=1
    )
    assert abs(ratio.mean() - 1) < 0.05
    assert greedy_coreset(wide, 50, 7).tolist() == greedy_coreset(wide, 50, 7).tolist()
    assert greedy_coreset(wide, 50, 7).tolist() != greedy_coreset(wide, 50, 8).tolist()
