"""The coreset: ours against brute force, in blocks against whole, and its spool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, MVTEC, WEIGHTS, done, full_disk, needs_real, refused, run
from numba.core.caching import IndexDataCacheFile

from benchmarks.brute_force import brute_force_k_center
from deploy import Preprocess, UserError
from models import PatchCore
from models.base.fitting import fit_features
from models.base.spool import Spool
from models.memory_bank.coreset import SAMPLERS, Sampler, k_center_on_gpu, principal_axes, projection
from models.memory_bank.kcenter import k_center
from models.memory_bank.native import native
from models.memory_bank.neighbours import neighbours

pytestmark = pytest.mark.once


def brute_force(points: np.ndarray, count: int, first: int, distance: np.ndarray | None = None) -> list[int]:
    """Algorithm 1 of the paper as it reads, in double precision."""
    points = points.astype(np.float64)
    chosen = [first]
    distance = np.full(len(points), np.inf) if distance is None else distance
    while len(chosen) < count:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return chosen


def generated(kind: str, rows: int = 3000) -> np.ndarray:
    random = np.random.default_rng(1)
    points = random.normal(size=(rows, 32)).astype(np.float32)
    if kind == "clusters":
        return points * 0.05 + 4 * random.normal(size=(20, 32)).astype(np.float32)[random.integers(20, size=rows)]
    if kind == "grid":  # whole numbers: distances are exact and ties are everywhere
        return random.integers(0, 3, size=(rows, 32)).astype(np.float32)
    if kind == "copies":
        return points[random.integers(rows // 4, size=rows)]
    if kind == "line":  # whole numbers on a line: nearly all distances tie
        return np.pad(random.permutation(rows)[:, None].astype(np.float32), ((0, 0), (0, 15)))
    return points * (1 + np.arange(32, dtype=np.float32)[::-1]) if kind == "uneven" else points


@pytest.mark.parametrize("kind", ["cloud", "clusters", "grid", "copies", "line", "uneven"])
def test_selection_equals_brute_force(kind: str) -> None:
    points = generated(kind)
    before, expected = points.copy(), brute_force(points, 700, 17)
    for threads in (1, 2, 3, 8):
        assert k_center(points, 700, 17, threads=threads).tolist() == expected
        assert (points == before).all(), "left alone"
    assert brute_force_k_center(points, 700, 17).tolist() == expected
    assert k_center_on_gpu(points, 200, 17).tolist() == expected[:200]


def test_selection_from_given_distances() -> None:
    points = generated("grid")
    squared = np.random.default_rng(6).integers(1, 40, len(points)).astype(np.float64)
    expected = brute_force(points, 700, 3, squared)
    assert k_center(points, 700, 3, squared).tolist() == expected
    assert k_center_on_gpu(points, 200, 3, squared).tolist() == expected[:200]


MEMORY = """
import numpy as np
from deploy.runtime.autolog import peak_mb
from models.memory_bank.kcenter import k_center
from models.memory_bank.native import native
random = np.random.default_rng(1)
k_center(random.normal(size=(3000, 128)).astype(np.float32), 200, 0)
points = random.normal(size=(200_000, 128)).astype(np.float32)
before = peak_mb()
k_center(points, 200, 0)
print(1e6 * (peak_mb() - before) / points.nbytes)
"""


def test_points_are_not_held_twice(run_warm: Callable) -> None:
    assert float(done(run_warm("-c", MEMORY)).stdout) < 0.75


@needs_real
@pytest.mark.real
def test_selection_of_real_features_equals_brute_force() -> None:
    model = PatchCore(weights=WEIGHTS)
    pictures = sorted((MVTEC / "bottle/train/good").glob("*.png"))[:20]
    fit_features(model, pictures, 8, None, None)
    points = model._sampler._turned()
    assert k_center(points, 1500, 5).tolist() == brute_force_k_center(points, 1500, 5).tolist()


def test_a_gpu_may_be_asked_for_no_rows() -> None:
    points = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert k_center_on_gpu(points, 0, 3).tolist() == k_center(points, 0, 3).tolist() == []


def test_first_centre_is_kept_and_none_comes_twice() -> None:
    points = np.random.default_rng(2).normal(size=(500, 16)).astype(np.float32)
    chosen = k_center(points, 500, 123)
    assert chosen[0] == 123
    assert sorted(chosen) == list(range(500))


def test_copies_are_left_out() -> None:
    points = np.repeat(np.random.default_rng(3).normal(size=(40, 16)), 5, axis=0).astype(np.float32)
    for choose in (k_center, k_center_on_gpu):
        chosen = choose(points, 200, 0)
        assert len(chosen) == 40
        assert len(np.unique(points[chosen], axis=0)) == 40


def choose(
    features: np.ndarray, sampler: str = "greedy", k: float = 10, block: int = 10**6, step: int = 50
) -> np.ndarray:
    found = Sampler(sampler, features.shape[1], len(features), k, block, seed=1)
    for start in range(0, len(features), step):
        found.add(features[start : start + step])
    return found.choose()


@pytest.mark.parametrize("block", [10**6, 90])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_choose_as_many_as_asked(sampler: str, block: int) -> None:
    features = np.random.default_rng(7).normal(size=(400, 40)).astype(np.float32)
    for k, count in ((12.5, 50), (150, 150)):
        chosen = choose(features, sampler, k, block)
        assert len(np.unique(chosen)) == len(chosen) == (400 if sampler == "identity" else count)
        assert chosen.tolist() == choose(features, sampler, k, block).tolist()


def radius(points: np.ndarray, chosen: np.ndarray) -> float:
    """The largest distance of any row to the nearest chosen one."""
    return float(np.sqrt(np.min([((points - points[row]) ** 2).sum(1) for row in chosen], axis=0).max()))


@pytest.mark.parametrize("kind", ["cloud", "clusters", "uneven"])
def test_merged_blocks_cover_nearly_as_well(kind: str) -> None:
    features = generated(kind)
    exact = choose(features)
    assert exact.tolist() == choose(features, block=3000).tolist(), "one block is the exact coreset"
    merged = choose(features, block=700)
    assert len(merged) == 300 and merged.tolist() != exact.tolist()
    assert radius(features, merged) <= 1.3 * radius(features, exact)


def test_how_features_arrive_decides_nothing() -> None:
    features = generated("cloud")
    for block in (3000, 700):
        assert choose(features, block=block).tolist() == choose(features, block=block, step=777).tolist()


def test_projection_keeps_distances_and_seed_decides() -> None:
    wide = np.random.default_rng(5).normal(size=(800, 300)).astype(np.float32)
    points = wide @ projection(300, np.random.default_rng(0))
    lengths = [np.linalg.norm(np.diff(rows[:200], axis=0), axis=1) for rows in (points, wide)]
    assert abs((lengths[0] / lengths[1]).mean() - 1) < 0.05
    mean, axes = principal_axes(points)
    turned = (points - mean) @ axes
    np.testing.assert_allclose(np.linalg.norm(np.diff(turned[:200], axis=0), axis=1), lengths[0], rtol=1e-4)
    assert (np.diff(turned.var(axis=0)) < 1e-3).all(), "the first dimensions vary most"
    assert (projection(300, np.random.default_rng(1)) != projection(300, np.random.default_rng(0))).any()


@pytest.mark.parametrize("block", [2048, 70])
def test_neighbours_and_replacements(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.memory_bank.neighbours.BLOCK", block)
    bank = np.random.default_rng(8).integers(-2, 3, (300, 6)).astype(np.float32)  # copies and ties
    owner = np.random.default_rng(9).integers(0, 7, 300)
    distance = ((bank[:, None].astype(np.float64) - bank[None]) ** 2).sum(2)
    nearest, replacement = neighbours(bank, (bank**2).sum(1) / 2, owner, 9)
    others = np.where(owner[:, None] == owner[None], np.inf, distance)
    assert replacement.tolist() == others.argmin(1).tolist()
    np.fill_diagonal(distance, -1)
    assert nearest.tolist() == np.argsort(distance, axis=1, kind="stable")[:, :9].tolist()
    with pytest.raises(UserError, match="one picture"):
        neighbours(bank, (bank**2).sum(1) / 2, owner * 0, 9)


def test_batch_size_and_blocks_in_a_fitted_model() -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (7, 80, 80, 3), dtype=np.uint8))
    said: list[str] = []

    def bank(batch_size: int, **options: object) -> np.ndarray:
        model = PatchCore(k=20, preprocess=Preprocess(72, 64), arch="compact", weights="random", **options)
        model.fit(pictures, batch_size, log=said.append)
        assert model.header["options"]["coreset_block"] == options.get("coreset_block", 2_000_000)
        return model.memory_bank.numpy()

    whole = bank(1)
    np.testing.assert_allclose(bank(4), whole, rtol=1e-3, atol=1e-4)
    assert not any("blocks" in line for line in said)
    assert bank(4, coreset_block=200).shape == whole.shape
    assert any("3 blocks" in line and "--coreset_block 200" in line for line in said)


def test_the_spool_gives_back_what_it_got(tmp_path: Path) -> None:
    rows = np.random.default_rng(4).normal(size=(100, 7)).astype(np.float32)
    spool = Spool(tmp_path, 7)
    spool.append(rows[:30])
    spool.append(rows[30:])
    chosen = np.array([99, 0, 31, 30, 29, 0])
    np.testing.assert_array_equal(spool.read(chosen), rows[chosen])
    assert not list(tmp_path.iterdir()), "nameless: nothing is left behind"


def test_a_spool_that_cannot_be_written_is_one_line(data: Path, tmp_path: Path) -> None:
    words = ["train.py", "--data_path", data, "--category", "washer", *FAST, "--save_path", tmp_path / "out"]
    refused(run(*words, "--spool_dir", tmp_path / "none"), "--spool_dir", "none")
    (tmp_path / "file").touch()
    refused(run(*words, "--spool_dir", tmp_path / "file"), "--spool_dir", "file")
    refused(run(*words, "--coreset_block", "0"), "--coreset_block")
    spool = Spool(tmp_path, 100)
    with full_disk(1000), pytest.raises(UserError, match="--spool_dir"):
        spool.append(np.zeros((10, 100), np.float32))
    done(run(*words, "--spool_dir", tmp_path, "--coreset_block", "300"))


def test_what_cannot_keep_its_machine_code_is_compiled_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    def thrice(x: float) -> float:
        return 3 * x

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    assert native()(thrice)(2.0) == 6
    nowhere: dict[str, Callable[[float], float]] = {}
    exec("def twice(x): return 2 * x", nowhere)  # numba finds no place beside a file that is not there
    assert native()(nowhere["twice"])(2.0) == 4
