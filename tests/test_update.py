"""Pictures that are added to a model without those that it was fitted on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import done, fitted, refused, run
from test_patchcore import SMALL, pictures

from deploy import Predictor, UserError
from deploy.calibration import Calibration
from deploy.storage.tensors import read_header
from models import METHODS, AnomalyMethod, PatchCore, changed_since_fit, load_model
from models.base import update
from models.memory_bank.coreset import Sampler, squared_to, thinned

OPTIONS = {
    "patchcore": {"k": 5, "lloyd": 0.5, "image_score": "density", "search": "coarse"},
    "padim": {"k": 20},
    "orthoad": {"k": 20},
    "spade": {},
}
FIRST, SECOND = pictures(8, 1), pictures(6, 2)


def make(name: str, **more: object) -> AnomalyMethod:
    return METHODS[name](preprocess=SMALL, arch="compact", weights="random", **{**OPTIONS[name], **more})


@pytest.fixture(scope="module", params=METHODS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A model of all pictures, the file of one of the first, and that one updated with the others."""
    file = make(request.param).fit(FIRST).save(tmp_path_factory.mktemp(request.param) / "thing.safetensors")
    said: list[str] = []
    updated = load_model(file).update([*FIRST[:2], *SECOND], log=said.append)
    return SimpleNamespace(
        name=request.param, file=file, all=make(request.param).fit(FIRST + SECOND), new=updated, said=said
    )


def test_an_update_is_near_to_a_fit_on_all(both: SimpleNamespace) -> None:
    found, known = both.new.fitted, both.all.fitted
    if both.name == "spade":
        assert all((found[name] == known[name]).all() for name in known)
    elif both.name == "patchcore":
        assert abs(len(found["memory_bank"]) - len(known["memory_bank"])) <= 1
    else:
        for name, value in known.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-3 * np.abs(value).max())
    test = pictures(4, 9)
    scores = [[p.score for p in model.predict(test)] for model in (both.new, both.all)]
    np.testing.assert_allclose(*scores, rtol={"patchcore": 0.15, "spade": 1e-6}.get(both.name, 1e-3))
    assert both.new.calibration.pictures == 14
    found, known = (np.array(model.calibration.scores) for model in (both.new, both.all))
    same = np.abs(found / known[:, None] - 1).min(axis=1) < 1e-3
    assert (
        same.sum() >= len(SECOND) or both.name == "patchcore"
    ), "held-out scores of new pictures are those of a fit on all"
    # scores of the smaller model would put them at half as much again, PaDiM's at twice as much
    levels = [model.calibration.image_threshold for model in (both.new, both.all)]
    np.testing.assert_allclose(*levels, rtol=0.15)


def test_pictures_that_the_model_holds_are_left_out_and_the_header_tells(both: SimpleNamespace) -> None:
    assert "features: 6 new pictures; 2 that the model holds already are left out" in both.said
    data = both.new.header["data"]
    assert data["pictures"] == 14 and [part["pictures"] for part in data["parts"]] == [8, 6]
    assert data["parts"][0]["sha256"] == read_header(both.file, "model")["data"]["sha256"] != data["sha256"]
    assert data["fingerprints"] == both.all.header["data"]["fingerprints"]
    with pytest.raises(UserError, match="none of the 2 pictures is new"):
        load_model(both.file).update(FIRST[:2])


def test_an_update_is_repeatable_and_can_be_updated(both: SimpleNamespace, tmp_path: Path) -> None:
    again = load_model(both.file).update(SECOND)
    assert fitted(again.save(tmp_path / "b.safetensors")) == fitted(both.new.save(tmp_path / "a.safetensors"))
    again.update(pictures(1, 3))
    assert again.data["pictures"] == 15 and [part["pictures"] for part in again.data["parts"]] == [8, 6, 1]
    assert again.calibration.pictures == 15


def test_size_is_bounded(both: SimpleNamespace) -> None:
    model = load_model(both.file)
    if both.name == "patchcore":
        rows = len(model.fitted["memory_bank"])
        owner = model.update(SECOND, max_size=rows + 5, false_alarm=0.2).records()["bank_owner"]
        assert len(model.fitted["memory_bank"]) == rows + 5 == len(owner)
        assert (owner < 8).any() and (owner >= 8).any() and model.calibration.false_alarm == 0.2
        fixed = make("patchcore", k=150).fit(FIRST).update(SECOND)
        assert len(fixed.fitted["memory_bank"]) == 150, "a k above 100 is the number of rows"
    elif both.name == "spade":
        model.update(SECOND, max_size=9)
        np.testing.assert_array_equal(model.fitted["descriptors"], both.all.fitted["descriptors"][-9:])
        with pytest.raises(UserError, match="--max_size 3 is too small"):
            model.update(pictures(4, 7), max_size=3)
    else:
        with pytest.raises(UserError, match=f"--max_size 9: a {both.name} model does not grow"):
            model.update(SECOND, max_size=9)


def test_scores_before_and_after_are_of_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven pictures, six of them new, every third new one is looked at."""
    pairs, factors = [], update._factors
    monkeypatch.setattr(update, "COMPARED", 3)
    monkeypatch.setattr(update, "_factors", lambda found: factors(pairs.extend(found) or found))
    model = make("padim").fit(FIRST)
    model.calibration = replace(model.calibration, image_threshold=1e9)
    before = [one.score for one in model.predict([SECOND[0], SECOND[3]])]
    model.update([FIRST[0], *SECOND])
    assert [levels[0] for levels, _ in pairs] == pytest.approx(before, rel=1e-3)
    pairs.clear()
    model.calibration = replace(model.calibration, image_threshold=1e-9)
    model.update(pictures(6, 3))
    assert not pairs, "those above the threshold do not tell"


def test_a_picture_is_forgotten(both: SimpleNamespace) -> None:
    """The model that was updated with one more, which is there twice, becomes the one that was not."""
    odd = np.full((120, 130, 3), 255, np.uint8)
    model = load_model(both.file)
    before, known = {name: value.copy() for name, value in model.fitted.items()}, model.calibration
    high = model.update([odd, odd]).calibration
    assert len(high.scores) == 10
    model.forget([odd])
    assert model.data["pictures"] == 8 == model.calibration.pictures == len(model.data["fingerprints"])
    assert len(model.data["forgotten"]) == 2 and model.data == model.header["data"]
    assert model.calibration.brightness == known.brightness, "255 has left"
    for name in ("memory_bank", "position_mean", "descriptors", "whitening_1"):
        if name in before:
            np.testing.assert_allclose(model.fitted[name], before[name], atol=0.01 * np.abs(before[name]).max())
    test = pictures(2, 9)
    scores = [[p.score for p in one.predict(test)] for one in (model, load_model(both.file))]
    np.testing.assert_allclose(*scores, rtol=0.02)
    with pytest.raises(UserError, match="--forget picture 0: it is none of the model's pictures"):
        model.forget([odd])


def test_patches_keep_their_pictures_in_whatever_order_others_are_forgotten() -> None:
    model = make("patchcore", lloyd=0).fit(FIRST)
    owner, marks = model.records()["bank_owner"], list(model.data["fingerprints"])
    model.forget([FIRST[5], FIRST[1]])
    left = np.delete(np.arange(8), [1, 5])
    np.testing.assert_array_equal(left[model.records()["bank_owner"]], owner[np.isin(owner, left)])
    assert model.data["fingerprints"] == [marks[number] for number in left]


def test_rows_of_two_pictures_are_left() -> None:
    model = make("patchcore").fit(FIRST)
    with pytest.raises(UserError, match="--forget: a memory bank needs rows of two pictures at least"):
        model.forget(FIRST[1:])


@pytest.mark.once
def test_the_greedy_choice_goes_on_from_the_bank() -> None:
    """Chosen one by one, each row is the farthest from bank and chosen ones (no projection below 128 dimensions)."""
    random = np.random.default_rng(4)
    rows, bank = (random.standard_normal((count, 32)).astype(np.float32) for count in (300, 40))
    np.testing.assert_allclose(squared_to(rows, bank), ((rows[:, None] - bank) ** 2).sum(2).min(1), rtol=1e-5)
    sampler = Sampler("greedy", 32, 300, 10, 1000, seed=1, bank=bank)
    sampler.add(rows)
    known = ((rows[:, None].astype(np.float64) - bank) ** 2).sum(2).min(1)
    for row in sampler.choose():
        assert known[row] == pytest.approx(known.max(), rel=1e-5)
        known = np.minimum(known, ((rows.astype(np.float64) - rows[row]) ** 2).sum(1))
    assert len(np.unique(thinned(rows, 7, seed=1))) == 7


@pytest.mark.once
def test_earlier_scores_are_multiplied() -> None:
    first = Calibration.from_levels([(1, 2, 0.5), (2, 4, 0.5)], 0.4).with_brightness([7, 9])
    second = Calibration.from_levels([(1.5, 3, 0.2)], 0.4).with_brightness([8])
    found = second.joined(first.at(threshold=0.7), (0.5, 0.5, 1))
    assert found.scores == (0.5, 1, 1.5) and found.maxima == (1, 2, 3) and found.brightness == (7, 8, 9)
    assert found.map_low == pytest.approx(0.4) and found.false_alarm == 0.4 and found.image_threshold == 1.5


@pytest.mark.once
def test_earlier_medians_are_multiplied_and_weighted_too() -> None:
    first = Calibration.from_levels([(1, 2, 0.5), (2, 4, 0.5)], 0.4)
    found = Calibration.from_levels([(1.5, 3, 0.2)], 0.4).joined(first, (1, 1, 4))
    assert found.map_low == pytest.approx((2 * 0.5 * 4 + 0.2) / 3)


@pytest.mark.once
def test_levels_without_a_picture_are_those_of_the_others_for_the_same_rate() -> None:
    rows = [(float(number), 2.0 * number, 0.5) for number in range(1, 10)]
    all_, left = (Calibration.from_levels(some, 0.2) for some in (rows, rows[:3] + rows[4:]))
    found = all_.with_brightness(range(9)).without([(4.1, 7.9, 0.4)], [3.2])
    assert found == left.with_brightness([0, 1, 2, 4, 5, 6, 7, 8])
    at_a_threshold = all_.with_brightness(range(9)).at(threshold=0.9)
    assert at_a_threshold.without([(4.1, 7.9, 0.4)], [3.2]) == found


@pytest.fixture
def more(data: Path, tmp_path: Path) -> Path:
    """Washers that `trained` has not seen."""
    shutil.copytree(data / "washer/test/good", tmp_path / "more/washer/train/good")
    return tmp_path / "more"


def test_scripts_know_an_updated_model(trained: SimpleNamespace, more: Path, tmp_path: Path) -> None:
    given = trained.model.read_bytes()
    words = ["--update", trained.model, "--data_path", more, "--save_path", tmp_path]
    said = done(run("train.py", *words, "--method", "patchcore", "--k", "2", "--crop_size", "96")).stdout
    model = tmp_path / "patchcore_compact_2/washer.safetensors"
    assert "11 pictures" in said and f"model: {model}" in said
    assert trained.model.read_bytes() == given, "the model that was given stays"
    header = read_header(model, "model")
    assert "--update" in header["command"] and header["data"]["pictures"] == 11
    named = ["--category", "washer", "--arch", "compact", "--k", "2", "--save_path", tmp_path]
    done(run("eval.py", "--data_path", trained.data, *named))
    done(run("export_model.py", *named))
    exported = Predictor.load(tmp_path / "patchcore_compact_2/washer/export/stats")
    test = sorted((trained.data / "washer/test").rglob("*.png"))[:3]
    for found, known in zip(exported.predict(test), load_model(model).predict(test)):
        assert found.score == pytest.approx(known.score, rel=1e-5)
        np.testing.assert_allclose(found.anomaly_map, known.anomaly_map, rtol=1e-4)
    gone = more / "washer/train/good/000.png"
    done(run("train.py", "--update", model, "--forget", gone, "--save_path", tmp_path / "again"))
    assert read_header(tmp_path / "again/patchcore_compact_2/washer.safetensors", "model")["data"]["pictures"] == 10


@pytest.mark.once
def test_a_threshold_by_labelled_pictures_is_given_up_and_said_so(
    trained: SimpleNamespace, more: Path, tmp_path: Path
) -> None:
    model = load_model(trained.model)
    file = model.save(tmp_path / "old/patchcore_compact_2/washer.safetensors")
    told = {"goal": "f1", "good": 1, "defective": 1, "pictures": []}
    model.set_thresholds(model.calibration.set_by(9.0, told), file)
    result = done(run("train.py", "--update", file, "--data_path", more, "--save_path", tmp_path / "new"))
    assert "set it again with eval.py --calibrate" in result.stdout
    found = read_header(tmp_path / "new/patchcore_compact_2/washer.safetensors", "model")["calibration"]
    assert found["labelled"] is None and found["false_alarm"] == 0.05 and found["image_threshold"] < 9
    lost = "the pictures that --update added or took out"
    assert changed_since_fit(tmp_path / "new/patchcore_compact_2/washer.safetensors") == lost
    assert changed_since_fit(trained.model) == changed_since_fit(tmp_path / "none") == ""
    said = done(run("train.py", *trained.words, "--category", "washer", "--save_path", tmp_path / "old")).stdout
    assert f"note: {file} is fitted again, without the threshold that labelled pictures set" in said


@pytest.mark.once
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "padim"], "--method padim"),
        (["--k", "3"], "--k 3"),
        (["--layers", "layer1"], "--layers layer1"),
        (["--lloyd", "0.1"], "--lloyd 0.1"),
        (["--seed", "7"], "--seed 7: "),
        (["--seed", "7", "8"], "--seed 7 8: "),
        (["--range", "0", "255"], "--range 0 255: "),
        (["--grid", "layer2"], "was trained without it"),
        (["--weights", "random"], "--weights"),
        (["--category", "all"], "--category all are 2"),
        (["--max_size", "1"], "--max_size 1"),
        (["--tile", "64"], "--tile 64"),
        (["--overlap", "0"], "--overlap 0"),
        (["--shots", "2"], "--shots 2"),
    ],
)
def test_contradictions_are_refused(words: list[str], told: str, trained: SimpleNamespace, tmp_path: Path) -> None:
    command = ["--update", trained.model, "--data_path", trained.data, "--save_path", tmp_path, *words]
    refused(run("train.py", *command), told)
    assert not list(tmp_path.iterdir())


@pytest.mark.once
@pytest.mark.parametrize("words", [["--eval"], ["--false_alarm", "0.2"], ["--max_size", "5"], ["--skip_bad"]])
def test_what_is_of_added_pictures_is_refused_where_none_are(
    words: list[str], trained: SimpleNamespace, tmp_path: Path
) -> None:
    gone = trained.data / "washer/train/good/000.png"
    command = ["--update", trained.model, "--forget", gone, "--save_path", tmp_path, *words]
    refused(run("train.py", *command), f"{words[0]} has an effect only with --data_path")
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_what_cannot_be_updated_is_refused(trained: SimpleNamespace, tmp_path: Path) -> None:
    refused(
        run("train.py", *trained.words, "--save_path", tmp_path, "--max_size", "9"),
        "--max_size has an effect only with --update",
    )
    refused(run("train.py", "--update", tmp_path / "none", "--data_path", trained.data), "no model file at")
    old = load_model(trained.model)
    del old.data["fingerprints"]
    with pytest.raises(UserError, match="older version"):
        old.forget(SECOND)
    for change in (old.update, old.forget):
        with pytest.raises(UserError, match="the list of pictures is empty"):
            change([])
    with pytest.raises(UserError, match="--false_alarm 0"):
        old.update(SECOND, false_alarm=0)
    with pytest.raises(UserError, match="not fitted"):
        PatchCore(preprocess=SMALL, arch="compact", weights="random").update(SECOND)
