"""Ensembles: the mean of members' scores over their spread on good pictures, in one program and one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, done, refused, run, table

from deploy import Preprocess, UserError
from models import Ensemble, PaDiM, PatchCore, build_model, load_model
from models.ensemble import _spread
from models.export.export import export

pytestmark = pytest.mark.once  # with Paddle 2.6, ensembles are fitted and exported in test_compact.py
SMALL = Preprocess(64, 64)
SETS = [("layer2", "layer3"), ("layer1", "layer2")]


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (70, 80, 3), dtype=np.uint8) for _ in range(count)]


def ensemble(method: str = "patchcore", k: float = 10) -> Ensemble:
    model = build_model(method, ["compact", "compact"], SETS, ["random"] * 2, k=k, preprocess=SMALL)
    return model.fit(pictures(8))


@pytest.mark.parametrize(("method", "k"), [("patchcore", 10), ("h_sample", 8), ("spade", 3)])
def test_scores_are_the_mean_over_the_spread_of_held_out_pictures(method: str, k: float, tmp_path: Path) -> None:
    """Each member is fitted alone; its held-out maps and scores are taken again, picture by picture."""
    together = ensemble(method, k)
    test, maps, scores, held_out = pictures(3, seed=9), 0, 0, 0
    for number, (arch, layers) in enumerate(zip(("compact", "compact"), SETS)):
        alone = build_model(method, [arch], [layers], ["random"], seed=521 + number, k=k, preprocess=SMALL)
        held = list(alone.fit_statistics(pictures(8), 8, None, None, lambda text: None))
        alone.fit(pictures(8))
        spread = np.std([m for m, _ in held]), np.std([s for _, s in held])
        held_out = held_out + np.array([s for _, s in held]) / spread[1] / 2
        found = list(alone.predict(test))
        maps = maps + np.stack([p.anomaly_map for p in found]) / spread[0] / 2
        scores = scores + np.array([p.score for p in found]) / spread[1] / 2
    np.testing.assert_allclose(together.calibration.scores, np.sort(held_out), rtol=1e-3)
    again = load_model(together.save(tmp_path / "model.safetensors"))
    assert max(export(again, tmp_path / "export").compared.values()) < 1e-5
    with pytest.raises(UserError, match="is an ensemble"):
        type(again.members[0]).load(tmp_path / "model.safetensors")
    for model in (together, again):
        found = list(model.predict(test, batch_size=2))
        np.testing.assert_allclose([p.score for p in found], scores, rtol=1e-3)
        np.testing.assert_allclose(np.stack([p.anomaly_map for p in found]), maps, rtol=1e-3)


def test_a_spread_that_is_small_by_chance_is_a_hundredth_of_the_level() -> None:
    assert _spread(0.5, 2.0) == 0.5 and _spread(0.001, 2.0) == 0.02 and _spread(0.0, 0.0) > 0


def test_one_backbone_is_no_ensemble() -> None:
    assert isinstance(build_model("patchcore", ["resnet18"], [None], ["random"], preprocess=SMALL), PatchCore)


def test_members_that_differ_are_refused() -> None:
    one = PatchCore(k=5, arch="compact", weights="random", preprocess=SMALL)
    for other in (
        PatchCore(k=6, arch="compact", weights="random", preprocess=SMALL),
        PaDiM(weights="random", preprocess=SMALL),
    ):
        with pytest.raises(UserError, match="must share"):
            Ensemble([one, other])


def test_a_bad_picture_is_skipped_by_every_member_and_told_once(data: Path) -> None:
    told: list[str] = []
    paths = sorted((data / "washer/train/good").iterdir())
    model = build_model("patchcore", ["compact"] * 2, SETS, ["random"] * 2, preprocess=SMALL)
    model.fit([*paths[:2], "no/such.png", *paths[2:]], on_bad=lambda name, error: told.append(name))
    assert told == ["no/such.png"]
    assert [member.data["pictures"] for member in model.members] == [len(paths)] * 2


def test_a_bad_array_is_skipped_by_every_member() -> None:
    random, told = np.random.default_rng(0), []
    arrays = list(random.integers(0, 256, (6, 70, 72, 3), np.uint8))
    layers = [["layer2"], ["layer3"], ["layer2", "layer3"]]
    model = build_model("patchcore", ["compact"] * 3, layers, ["random"] * 3, k=20, preprocess=SMALL)
    model.fit([np.zeros((5, 5), np.uint8), *arrays], on_bad=lambda name, error: told.append(name))
    assert told == ["picture 0"] and model.calibration.pictures == 6
    assert [member.data["pictures"] for member in model.members] == [6] * 3


def test_as_many_layers_and_weights_as_backbones() -> None:
    with pytest.raises(UserError, match="2 archs, 1 layers and 2 weights"):
        build_model("patchcore", ["compact"] * 2, [["layer2"]], ["random"] * 2)
    with pytest.raises(UserError, match="0 archs"):
        build_model("patchcore", [], [], [])


def scores(path: Path) -> list[tuple[str, float]]:
    return sorted((Path(row["path"]).name, float(row["score"])) for row in table(path))


def test_scripts_from_training_to_inference(data: Path, tmp_path: Path) -> None:
    words = ["--category", "washer", "--k", "2", "--save_path", tmp_path]
    size = ["--weights", "random", "--crop_size", "96", "--resize", "112"]
    two = ["--arch", "resnet18", "resnet18"]
    layers = ["--layers", "layer2,layer3", "layer1,layer2"]
    done(run("train.py", "--data_path", data, *words, *size, *two, *layers, "--eval"))
    folder = tmp_path / "patchcore_resnet18+resnet18_2"
    assert len(list(folder.glob("resnet18-*.safetensors"))) == 2, "each set of layers stores what it reads"
    done(run("eval.py", "--data_path", data, *words, *two, "--save_pic", "False"))
    done(run("export_model.py", *words, *two, "--save_dir", tmp_path / "export"))
    pictures = data / "washer/test/chip"
    done(run("predict.py", *words, "--arch", "resnet18+resnet18", pictures, "--save_pic", "False"))
    stats = ["--stats", tmp_path / "export/stats", "--save_path", tmp_path / "infer"]
    done(run("infer.py", *stats, "--input_file", pictures, "--save_pic", "False"))
    assert scores(tmp_path / "infer/infer.csv") == scores(folder / "washer/predict.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "resnet18", "resnet34", "--layers", "layer1", "layer2", "layer3"], "3 given for 2 backbones"),
        (["--arch", "resnet18+resnet34", "--weights", "a", "b", "c"], "--weights"),
        (["--arch", "resnet18", "resnet9"], "resnet9"),
    ],
)
def test_what_does_not_fit_together_is_named(data: Path, tmp_path: Path, words: list[str], said: str) -> None:
    fast = [word for word in FAST if word not in ("--layers", "layer2", "layer3")]
    refused(run("train.py", "--data_path", data, "--category", "washer", *fast, "--save_path", tmp_path, *words), said)
