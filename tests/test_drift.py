"""A stream of scores that rise is noticed, one of good pictures is not, however long it runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import done, run
from scipy.stats import binom

from deploy.drift import Drift


@pytest.mark.parametrize(("streams", "length", "stored", "digits"), [(12, 10_000, 80, 9), (300, 300, 20, 1)])
def test_no_alarm_while_nothing_changes(streams: int, length: int, stored: int, digits: int) -> None:
    """`digits` 1: with many equal scores."""
    random, alarms = np.random.default_rng(4), 0
    for _ in range(streams):
        scores = np.round(random.gamma(4.0, size=stored + length), digits).tolist()
        drift = Drift(scores[:stored])
        alarms += any([drift.add(score) for score in scores[stored:]])
        assert drift.pictures == length and (drift.alarm is None) == str(drift).startswith("drift: none in ")
    assert alarms <= binom.ppf(0.999, streams, 0.01)


def test_capital_grows_by_less_than_one_on_average() -> None:
    """One bet, over all ranks that a score can have: the odds are fair, or a little against the bet."""
    stored = np.arange(99.0)
    grown = []
    for place in range(100):
        drift = Drift(stored)
        drift.add(place - 0.5)
        grown.append(drift.evidence)
    assert 0.9 < np.mean(grown) <= 1


@pytest.mark.parametrize("before", [0, 200])
def test_scores_that_rise_are_noticed(before: int) -> None:
    random, delays = np.random.default_rng(4), []
    for _ in range(40):
        drift = Drift(random.normal(10, 1, 80).tolist())
        for score in random.normal(10, 1, before):
            drift.add(score)
        drift = drift if drift.alarm is None else Drift(random.normal(10, 1, 80).tolist())
        for score in random.normal(11.5, 1, 200):
            drift.add(score)
        assert drift.alarm is not None
        delays.append(drift.alarm - before)
    assert np.median(delays) < 60
    assert f"alarm at picture {drift.alarm} of {before + 200}" in str(drift)


def test_some_defects_are_no_drift() -> None:
    random, alarms = np.random.default_rng(4), 0
    for _ in range(60):
        drift = Drift(random.normal(10, 1, 80).tolist())
        alarms += any(
            [drift.add(score) for score in random.normal(10, 1, 1000) + 9 * (random.uniform(size=1000) < 0.1)]
        )
    assert alarms <= binom.ppf(0.999, 60, 0.01)


def test_runs_say_whether_pictures_drift(trained: SimpleNamespace, tmp_path: Path) -> None:
    good = sorted((trained.data / "washer/train/good").iterdir())
    dark, same = tmp_path / "dark", tmp_path / "same"
    dark.mkdir(), same.mkdir()
    for turn in range(4):
        for path in good:
            picture = cv2.imread(str(path))
            cv2.imwrite(str(same / f"{turn}{path.name}"), picture)
            cv2.imwrite(str(dark / f"{turn}{path.name}"), (picture * 0.5).astype(np.uint8))
    words = ["--stats", trained.export / "stats", "--enable_drift", "--save_pic", "False", "--save_path"]
    said = done(run("infer.py", *words, tmp_path / "a", "-i", same)).stdout
    assert re.search(rf"^drift: none in {4 * len(good)} pictures \(evidence ", said, re.MULTILINE)
    said = done(run("infer.py", *words, tmp_path / "b", "-i", dark)).stdout
    assert re.search(rf"^drift: alarm at picture \d+ of {4 * len(good)}: ", said, re.MULTILINE)

    files = sorted(dark.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.results.watch.Stop", lambda: False)
        for part, wanted in ((files[:4], ["none in 4 "]), (files[4:], ["none in 4 ", "alarm"]), ([], ["alarm"])):
            patch.setattr("deploy.results.watch.arrivals", lambda *_, part=part: [(path, True) for path in part])
            said = done(run("infer.py", *words, tmp_path / "w", "--watch", dark)).stdout
            told = re.findall(r"^drift: (none in \d+ |alarm)", said, re.MULTILINE)
            assert told == (wanted if part != files[:4] else ["none in 0 "]), "what the table holds, then the alarm"

    words = ["--data_path", trained.data, "--category", "washer", "--model_path", trained.model, "--enable_drift"]
    said = done(run("eval.py", *words, "--save_pic", "False", "--save_path", tmp_path / "c")).stdout
    good = sum(1 for _ in (trained.data / "washer/test/good").iterdir())
    assert f"drift: none in {good} pictures" in said
