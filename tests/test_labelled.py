"""A threshold set by labelled pictures: the goals, where pictures come from, and what of the model changes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import done, refused, run

from datasets.readers.labelled import labelled_pictures
from deploy import UserError
from deploy.storage.table import write_csv
from deploy.storage.tensors import read_tensors
from evaluation.decisions import BEST_F1, Goal, choose_threshold

pytestmark = pytest.mark.once


def brute_force(scores: np.ndarray, defective: np.ndarray, goal: Goal) -> tuple[float, float]:
    """What the goal wants most, and second most, over all thresholds."""
    best = (-np.inf, -np.inf)
    for threshold in np.unique(np.concatenate([[scores.min() - 1], scores])):
        called = scores > threshold
        found, alarms = (called & defective).sum(), (called & ~defective).sum()
        if not called.any():
            continue
        recall, precision = found / defective.sum(), found / called.sum()
        if goal.name == "f1":
            value = (2 * found / (called.sum() + defective.sum()), 0.0)
        elif goal.name == "recall":
            value = (float(recall >= goal.value), -alarms)
        elif goal.name == "precision":
            value = (float(precision >= goal.value), found)
        else:
            value = (-goal.value * (defective.sum() - found) - alarms, 0.0)
        best = max(best, value)
    return best


@pytest.mark.parametrize("text", ["f1", "recall=0.9", "recall=1", "precision=0.8", "miss_cost=0.5", "miss_cost=10"])
def test_the_threshold_reaches_its_goal(text: str) -> None:
    goal, random = Goal.parse(text), np.random.default_rng(3)
    assert str(goal) == text
    for _ in range(40):
        defective = random.uniform(size=30) < 0.4
        defective[:2] = True, False
        scores = np.round(random.normal(defective * 1.5 + 5), 1)  # with ties
        wanted, second = brute_force(scores, defective, goal)
        if goal.name == "precision" and wanted == 0:
            with pytest.raises(UserError, match="no threshold has a precision"):
                choose_threshold(scores, defective, goal)
            continue
        level = choose_threshold(scores, defective, goal)
        called = scores > level
        found, alarms = (called & defective).sum(), (called & ~defective).sum()
        assert level not in scores
        if goal.name == "f1":
            assert 2 * found / (called.sum() + defective.sum()) == pytest.approx(wanted)
        elif goal.name == "recall":
            assert found >= goal.value * defective.sum() - 1e-9 and -alarms == second
        elif goal.name == "precision":
            assert found >= goal.value * called.sum() - 1e-9 and found == second
        elif goal.name == "miss_cost":
            assert -goal.value * (defective.sum() - found) - alarms == pytest.approx(wanted)


def test_impossible_goals_are_refused() -> None:
    scores, defective = np.array([3.0, 2.0, 1.0]), np.array([False, True, False])
    with pytest.raises(UserError, match="precision of 0.9 on these pictures: the best is 0.5"):
        choose_threshold(scores, defective, Goal("precision", 0.9))
    with pytest.raises(UserError, match="0 of 3 labelled pictures are defective"):
        choose_threshold(scores, np.zeros(3, bool), BEST_F1)


@pytest.fixture
def model(trained: SimpleNamespace, tmp_path: Path) -> Path:
    """The shared model, where it may be changed."""
    for path in (trained.model, *trained.run.glob("compact*")):
        shutil.copy(path, tmp_path)
    return tmp_path / trained.model.name


def test_labelled_pictures_set_the_models_threshold(model: Path, trained: SimpleNamespace, tmp_path: Path) -> None:
    before, header = read_tensors(model, "model")
    before = {name: value.copy() for name, value in before.items()}
    words = ["--data_path", trained.data, "--category", "washer", "--model_path", model, "--save_pic", "False"]
    test = trained.data / "washer/test"
    said = done(run("eval.py", *words, "--save_path", tmp_path / "a", "--calibrate", test, "--goal", "recall=1"))
    after, changed = read_tensors(model, "model")
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
    levels = changed["calibration"]
    assert {**header, "calibration": None} == {**changed, "calibration": None}
    assert levels["scores"] == header["calibration"]["scores"] and levels["labelled"]["goal"] == "recall=1"
    pictures = len(levels["labelled"]["pictures"])
    assert levels["labelled"]["good"] + levels["labelled"]["defective"] == pictures > 3
    assert f"threshold {levels['image_threshold']:.4f} for recall=1, set by" in said.stdout
    assert f"{pictures} of these {pictures} pictures set the threshold" in said.stdout
    assert " 0 of " in said.stdout.split("defects missed")[0].rpartition("defective (")[2], "all are found"
    [table] = (tmp_path / "a").rglob("eval.csv")
    rows = list(csv.DictReader(table.open()))
    assert all(int(row["defective"]) for row in rows if row["kind"] != "good")
    for row in rows:
        assert (
            int(row["defective"]) == (float(row["scaled"]) > 0.5) == (float(row["score"]) > levels["image_threshold"])
        )
    assert rows[0]["command"].count("--goal recall=1") == 1

    done(run("export_model.py", "--category", "washer", "--model_path", model, "--save_path", tmp_path / "b"))
    [stats] = (tmp_path / "b").rglob("stats")
    assert read_tensors(stats, "stats")[1]["calibration"] == levels
    alone = done(run("infer.py", "--stats", stats, "-i", test / "good", "--save_path", tmp_path / "c"))
    assert f"{levels['image_threshold']:.4f} for recall=1" in alone.stdout
    again = done(run("eval.py", *words, "--save_path", tmp_path / "d", "--false_alarm", "0.1"))
    assert "pictures set the threshold" not in again.stdout, "the rate set it"


def test_a_table_of_pictures(model: Path, trained: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--data_path", trained.data, "--category", "washer", "--model_path", model, "--save_pic", "False"]
    words += ["--save_path", tmp_path / "a"]
    kept, table = model.read_bytes(), tmp_path / "labelled.csv"
    folders = sorted((trained.data / "washer/test").iterdir())
    pictures = [path for folder in folders for path in sorted(folder.iterdir())[:2]]
    lines = [f"{path},{'good' if path.parent.name == 'good' else 'defective'}" for path in pictures]
    for text, words_wanted in (
        ("", ["has no rows", "path and label"]),
        ("path,kind\na.png,1\n", ["columns path and label"]),
        ("path,label\nnone.png,1\n", ["row 2", "no picture at", "none.png"]),
        (f"path,label\n{pictures[0]},bad\n", ["row 2", "'bad'"]),
        (f"path,label\n{pictures[0]},1\n", ["1 of 1 labelled pictures are defective"]),
    ):
        table.write_text(text)
        refused(run("eval.py", *words, "--calibrate", table), *words_wanted)
        assert model.read_bytes() == kept
    refused(run("eval.py", *words, "--calibrate", tmp_path / "none"), "--calibrate", "path,label")
    refused(run("eval.py", *words, "--goal", "f1"), "--calibrate")
    several = ["--data_path", trained.data, "--save_path", tmp_path / "a", "--calibrate", trained.data / "washer/test"]
    refused(run("eval.py", *several), "--calibrate", "--category all are 2")
    refused(run("eval.py", *words, "--calibrate", table, "--goal", "recall=2"), "recall=2", "miss_cost")
    table.write_text("\n".join(["path,label", *lines]))
    said = done(run("eval.py", *words, "--calibrate", table))
    assert f"{len(lines)} of these" in said.stdout and "for f1, set by" in said.stdout
    assert model.read_bytes() != kept


def test_a_table_that_we_wrote_is_read(trained: SimpleNamespace, tmp_path: Path) -> None:
    """Names that a spreadsheet would take for a formula have an apostrophe in front there."""
    shutil.copy(trained.data / "washer/test/good/000.png", tmp_path / "=1.png")
    write_csv(tmp_path / "table.csv", ("path", "label"), [("=1.png", "good"), ("=1.png", 1)])
    assert "'=1.png" in (tmp_path / "table.csv").read_text()
    found = tmp_path / "=1.png"
    assert labelled_pictures(tmp_path / "table.csv") == [(found, False), (found, True)]
