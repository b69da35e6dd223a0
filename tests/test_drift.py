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

from deploy.drift import Drift, Martingale

pytestmark = pytest.mark.once


@pytest.mark.parametrize(("streams", "length", "stored", "digits"), [(5, 10_000, 80, 9), (100, 300, 20, 1)])
def test_no_alarm_while_nothing_changes(streams: int, length: int, stored: int, digits: int) -> None:
    """`digits` 1: with many equal values."""
    random, alarms = np.random.default_rng(4), 0
    for _ in range(streams):
        values = np.round(random.gamma(4.0, size=(2, stored + length)), digits)
        drift = Drift(*values[:, :stored].tolist())
        alarms += any([drift.add(*pair) for pair in values[:, stored:].T.tolist()])
        assert drift.pictures == length and (drift.alarm is None) == str(drift).startswith("drift: none in ")
    assert alarms <= binom.ppf(0.999, streams, 0.01)


@pytest.mark.parametrize("side", [1, -1])
def test_capital_grows_by_less_than_one_on_average(side: int) -> None:
    """One bet, over all ranks that a value can have: the odds are fair, or a little against the bet."""
    grown = [Martingale(np.arange(99.0), side).add(place - 0.5) for place in range(100)]
    assert 0.9 < np.mean(grown) <= 1
    assert (grown[99] > 1 > grown[0]) is (side == 1)


@pytest.mark.parametrize("before", [0, 200])
@pytest.mark.parametrize(
    ("changed", "told"), [((1.5, 0), "scores rise"), ((0, -1.5), "become darker"), ((0, 1.5), "become brighter")]
)
def test_changes_are_noticed(before: int, changed: tuple[float, float], told: str) -> None:
    """Score and brightness change by so many standard deviations."""
    random, delays = np.random.default_rng(4), []
    for _ in range(30):
        drift = Drift(*random.normal(10, 1, (2, 80)).tolist())
        early = [drift.add(*pair) for pair in random.normal(10, 1, (before, 2))]
        if any(early):  # one in a hundred may
            continue
        for pair in random.normal(10, 1, (200, 2)) + changed:
            drift.add(*pair)
        assert drift.alarm is not None and told in str(drift)
        delays.append(drift.alarm - before)
    assert np.median(delays) < 60 and len(delays) > 26
    assert f"alarm at picture {drift.alarm} of {before + 200}" in str(drift)


def test_some_defects_are_no_drift() -> None:
    random, alarms = np.random.default_rng(4), 0
    for _ in range(25):
        drift = Drift(*random.normal(10, 1, (2, 80)).tolist())
        scores = random.normal(10, 1, 1000) + 9 * (random.uniform(size=1000) < 0.1)
        alarms += any([drift.add(*pair) for pair in zip(scores, random.normal(10, 1, 1000))])
    assert alarms <= binom.ppf(0.999, 25, 0.01)


def test_runs_say_whether_pictures_drift(trained: SimpleNamespace, tmp_path: Path) -> None:
    good = sorted((trained.data / "washer/train/good").iterdir())
    dark, same = tmp_path / "dark", tmp_path / "same"
    dark.mkdir(), same.mkdir()
    for turn in range(9):
        for path in good:
            picture = cv2.imread(str(path))
            cv2.imwrite(str(same / f"{turn}{path.name}"), picture)
            cv2.imwrite(str(dark / f"0{turn}{path.name}"), picture)
            cv2.imwrite(str(dark / f"1{turn}{path.name}"), (picture * 0.85).astype(np.uint8))
    words = ["--stats", trained.export / "stats", "--enable_drift", "--save_pic", "False", "--save_path"]
    said = done(run("infer.py", *words, tmp_path / "a", "-i", same)).stdout
    assert re.search(rf"^drift: none in {9 * len(good)} pictures \(evidence ", said, re.MULTILINE)
    said = done(run("infer.py", *words, tmp_path / "b", "-i", dark)).stdout
    [[place, what]] = re.findall(rf"^drift: alarm at picture (\d+) of {18 * len(good)}: ([\w ]+),", said, re.MULTILINE)
    assert int(place) > 9 * len(good) and what == "pictures become darker"

    files = sorted(dark.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.results.watch.Stop", lambda: False)
        patch.setattr("deploy.results.watch.arrivals", lambda *_: [(path, True) for path in files])
        said = done(run("infer.py", *words, tmp_path / "w", "--watch", dark)).stdout
        assert len(re.findall(r"^drift: alarm at picture (\d+) of \1: pictures become darker", said, re.MULTILINE)) == 1

    words = ["--data_path", trained.data, "--category", "washer", "--model_path", trained.model, "--enable_drift"]
    said = done(run("eval.py", *words, "--save_pic", "False", "--save_path", tmp_path / "c")).stdout
    good = sum(1 for _ in (trained.data / "washer/test/good").iterdir())
    assert f"drift: none in {good} pictures" in said
