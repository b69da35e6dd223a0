"""Many categories by one run: models are those of single runs, and what they share is made once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import FAST, done, fitted, run

from deploy import Preprocess, UserError
from models import Detector, build_model
from models.base import detector, method
from models.graph import compiled

pytestmark = pytest.mark.once
K = {"patchcore": 20, "padim": 20, "spade": 5}


def pictures(seed: int, count: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return list(drawn.repeat(8, 1).repeat(8, 2))


def built(name: str, archs: int = 1) -> Detector:
    layers = ["layer2", "layer3"] if name != "spade" else ["layer2"]
    each = {"archs": ["compact"] * archs, "layers": [layers] * archs, "weights": ["random"] * archs}
    more = {"descriptor_layer": "layer3"} if name == "spade" else {}
    return build_model(name, **each, k=K[name], preprocess=Preprocess(64, 64), seed=3, **more)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often programs were compiled, by the compiler's name."""
    counts: Counter = Counter()

    def counted(name: str) -> object:
        original = getattr(compiled, name)

        def compile_and_count(*arguments: object) -> object:
            counts[name] += 1
            return original(*arguments)

        return compile_and_count

    for name, places in {
        "compile_embedding": [method],
        "compile_feature_scoring": [method],
        "compile_scoring": [detector],
    }.items():
        new = counted(name)
        for place in places:
            monkeypatch.setattr(place, name, new)
    return counts


@pytest.mark.parametrize("name, archs", [("patchcore", 1), ("padim", 2), ("spade", 1)])
def test_a_model_fitted_again_is_a_new_one(name: str, archs: int, compilations: Counter, tmp_path: Path) -> None:
    again, alone, seen = built(name, archs), built(name, archs), pictures(9, 2)
    again.fit(pictures(1, 6), 4, 0)
    first = again.predictor()
    before = [one.anomaly_map for one in again.predict(seen, 1, 0)]
    known = compilations.copy()
    with pytest.raises(UserError, match="none.png"):  # behind the first batch
        again.fit([*pictures(1, 6), tmp_path / "none.png"], 4, 0)
    again.fit(pictures(2, 4), 4, 0)
    # of fewer pictures than neighbours, SPADE makes another program
    assert compilations - known == ({"compile_feature_scoring": 1} if name == "spade" else {})
    alone.fit(pictures(2, 4), 4, 0)
    assert fitted(again.save(tmp_path / "again")) == fitted(alone.save(tmp_path / "alone"))
    for mine, other in zip(again.predict(seen, 1, 0), alone.predict(seen, 1, 0)):
        assert (mine.anomaly_map == other.anomaly_map).all() and mine.score == other.score
    for old, one in zip(before, first.predict(seen, 1, 0)):
        assert (old == one.anomaly_map).all(), "a predictor stays that of its fit"
    known = compilations.copy()
    again.fit(pictures(4, 4), 4, 0).predictor()
    assert compilations == known


def test_a_run_over_categories_writes_what_each_alone_does(
    trained: SimpleNamespace, tmp_path: Path, compilations: Counter
) -> None:
    done(run("train.py", "--data_path", trained.data, *FAST, "--save_pic", "none", "--save_path", tmp_path))
    assert compilations == {"compile_embedding": 1, "compile_feature_scoring": 1}
    assert fitted(tmp_path / trained.run.name / "washer.safetensors") == fitted(trained.model)
