"""Thresholds and p-values: conformal where good pictures support them, estimated and said so where not."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import done, refused, run
from scipy.stats import binom

from deploy import Calibration, UserError
from deploy.conformal import Tail, least_rate, p_value, threshold_for
from evaluation.decisions import Decisions, interval
from models import load_model

pytestmark = pytest.mark.once


def good(count: int, seed: int = 0) -> list[float]:
    return sorted(np.random.default_rng(seed).gamma(4.0, size=count).tolist())


@pytest.mark.parametrize("count", [7, 19, 64, 209])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_thresholds_and_p_values_are_those_of_the_definition(count: int, rate: float) -> None:
    scores = good(count)
    for score in (0.0, scores[0], scores[count // 2], (scores[1] + scores[2]) / 2, scores[-1], 99.0):
        assert p_value(scores, score) == (1 + sum(other >= score for other in scores)) / (count + 1)
    level = threshold_for(scores, rate)
    if rate < least_rate(scores):
        assert level > scores[-1]
        return
    above = np.nextafter(level, math.inf)
    assert p_value(scores, above) <= rate + 1e-12
    below = [score for score in scores if score < level]
    assert not below or p_value(scores, np.nextafter(below[-1], math.inf)) > rate, "the lowest such level"


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_the_promised_rate_is_kept(rate: float) -> None:
    """Over 2,000 draws of 150 good pictures and one more from the same distribution."""
    random = np.random.default_rng(1)
    draws = np.sort(random.lognormal(size=(2000, 150)), axis=1)
    alarms = sum(new > threshold_for(row, rate) for row, new in zip(draws.tolist(), random.lognormal(size=2000)))
    assert alarms <= 2000 * rate + 3 * math.sqrt(2000 * rate * (1 - rate))
    assert alarms >= 2000 * rate - 3 * math.sqrt(2000 * rate * (1 - rate)) - 2000 / 151, "and not undercut by far"


@pytest.mark.parametrize(("shape", "draw"), [(0.0, "exponential"), (0.3, "pareto")])
def test_the_tail_continues_what_is_there(shape: float, draw: str) -> None:
    random = np.random.default_rng(2)
    sample = random.exponential(size=4000) if draw == "exponential" else random.pareto(1 / shape, size=4000)
    tail = Tail(sorted(sample.tolist()))
    assert tail.shape == pytest.approx(shape, abs=0.12)
    for rate in (0.1, 0.01, 1e-4):
        true = -math.log(rate) if draw == "exponential" else rate**-shape - 1
        assert tail.level(rate) == pytest.approx(true, rel=0.35)
        assert tail.probability(tail.level(rate)) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("scores", [[1.0, 1.0], [0.5, 0.7], [3.0] * 30])
def test_few_or_equal_scores_give_finite_levels(scores: list[float]) -> None:
    tail = Tail(scores)
    assert tail.probability(scores[-1]) == pytest.approx(tail.share, abs=1)
    assert math.isfinite(threshold_for(scores, 0.001)) and threshold_for(scores, 0.001) >= scores[-1]
    assert 0 <= tail.probability(scores[-1] + 1) <= 1


@pytest.mark.parametrize("count", [5, 26, 55, 80, 209])
def test_a_smaller_rate_has_no_lower_threshold(count: int) -> None:
    """Where the rate becomes too small to be promised and is estimated, as elsewhere."""
    for seed in range(20):
        scores, rates = good(count, seed), np.geomspace(0.5, 1e-4, 60)
        levels = [threshold_for(scores, rate) for rate in rates]
        assert levels == sorted(levels)


def test_levels_come_from_good_pictures_alone() -> None:
    random = np.random.default_rng(4)
    maps, scores = random.random((39, 6, 5)).astype(np.float32), random.random(39)
    found = Calibration.from_good(zip(maps, scores), 0.1)
    maxima = np.sort(maps.max(axis=(1, 2)))
    assert found.pictures == 39 and found.false_alarm == 0.1
    assert found.image_threshold == pytest.approx(np.sort(scores)[35]), "the 36th of 39: 40 x .9"
    assert found.pixel_threshold == pytest.approx(maxima[35])
    assert found.map_low == pytest.approx(np.median(np.median(maps, axis=(1, 2))))
    assert found.map_low + found.map_high == pytest.approx(2 * found.pixel_threshold)
    assert Calibration.from_dict(found.to_dict()) == found
    for share in (found.p_value, found.p_value_of_map, found.p_tail, found.scaled):
        assert math.isnan(share(math.nan)), "what is no score is not called good"
    assert found.p_tail(found.scores[-1]) is None and 0 < found.p_tail(1.5) <= 1 / 40
    few, enough = (Calibration.from_good(zip(maps[:n], scores[:n]), 0.1) for n in (10, 11))
    assert few.p_tail(1.5) is None and 0 < enough.p_tail(1.5) <= 1 / 12, "a tail of ten tells next to nothing"
    assert found.warning() is None and "39 good pictures" in found.at(false_alarm=0.01).warning()
    moved = found.at(false_alarm=0.5)
    assert moved.image_threshold == pytest.approx(np.sort(scores)[19])
    assert moved.scaled(found.image_threshold) == 0.5, "the scale is the model's"
    assert moved.scaled(np.median(found.scores)) == 0.0
    assert moved.at(0.5, True).image_threshold == pytest.approx(found.image_threshold)
    other = Calibration.from_good(zip(3 * maps, 2 + 3 * scores), 0.1)
    assert other.scaled(2 + 3 * 1.7) == pytest.approx(found.scaled(1.7), rel=1e-5), "whatever level and spread"
    low = Calibration.from_good(zip(maps, scores), 0.9)
    assert low.image_threshold < np.median(scores) and low.scaled(low.image_threshold) == 0.5
    assert low.scaled(0.0) == 0.0, "a threshold below the median is scaled from 0 on"
    assert moved.to_dict() == found.to_dict()
    with pytest.raises(UserError, match="give one of them"):
        found.at(0.5, True, 0.1)
    for rate in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="--false_alarm"):
            Calibration.from_good(zip(maps, scores), rate)


def test_the_rate_is_an_option_of_every_script(trained: SimpleNamespace, tmp_path: Path) -> None:
    levels, picture = load_model(trained.model).calibration, trained.data / "washer/test/chip"
    assert levels.false_alarm == 0.05 and levels.pictures == len(list((trained.data / "washer/train/good").iterdir()))
    low = levels.at(false_alarm=0.5)
    for script, words in (
        ("eval.py", ["--data_path", trained.data, "--category", "washer", "--model_path", trained.model]),
        ("predict.py", [picture, "--category", "washer", "--model_path", trained.model]),
        ("infer.py", ["--stats", trained.export / "stats", "--input_file", picture]),
    ):
        out = tmp_path / script
        words += ["--save_path", out, "--save_pic", "False", "--false_alarm", "0.5"]
        said = done(run(script, *words))
        [table] = [path for path in out.rglob("*.csv") if path.stem in ("eval", "predict", "infer")]
        rows = list(csv.DictReader(table.open()))
        assert len(rows) >= 2
        for row in rows:
            score = float(row["score"])
            assert int(row["defective"]) == (score > low.image_threshold)
            assert float(row["p_value"]) == pytest.approx(levels.p_value(score), rel=1e-3)
            tail = levels.p_tail(score)
            assert row["p_tail"] == ("" if tail is None else f"{tail:.4g}")
            assert float(row["scaled"]) == pytest.approx(levels.scaled(score), rel=1e-4)
        assert "--false_alarm 0.5" in rows[0]["command"]
        if script != "eval.py":
            assert f"threshold {low.image_threshold:.4f} for a false alarm rate of 0.5" in said.stdout
        refused(run(script, *words[:-1], "1.5"), "--false_alarm", "1.5")
    both = ["--model_path", trained.model, "--threshold", "0.4", "--false_alarm", "0.1"]
    refused(run("predict.py", picture, *both), "give one")


def test_decisions_at_a_threshold_have_exact_intervals() -> None:
    scores, defective = np.array([0.1, 0.2, 0.35, 0.3, 0.6, 0.9, 0.9]), np.array([0, 0, 0, 1, 1, 1, 1], bool)
    found = Decisions.at(0.5, scores, defective)
    assert (found.good, found.false_alarms, found.defective, found.misses) == (3, 0, 4, 1)
    assert found.best_threshold == pytest.approx(0.25), "all four for one false alarm: 8/9, three for none: 6/7"
    assert str(found).startswith(
        "at threshold 0.5000: 0 of 3 good called defective (0.0 to 70.8 %), 1 of 4 defects missed"
    )
    assert Decisions.at(0.5, scores[:3], defective[:3]).best_threshold is None
    for count, total in ((0, 20), (3, 20), (20, 20)):
        low, high = interval(count, total)
        assert count == 0 or binom.sf(count - 1, total, low) == pytest.approx(0.025, abs=1e-9)
        assert count == total or binom.cdf(count, total, high) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("rate", ["0.2", "0.001"])
def test_a_verdict_at_an_estimated_level_is_json(trained: SimpleNamespace, tmp_path: Path, rate: str) -> None:
    """Eight good pictures can promise 0.2; for less the level is estimated."""
    words = ["--stats", trained.export / "stats", "-i", trained.data / "washer/test", "--save_path", tmp_path]
    done(run("infer.py", *words, "--save_pic", "none", "--jsonl", "--false_alarm", rate))
    rows = [json.loads(line) for line in (tmp_path / "infer.jsonl").read_text().splitlines()]
    assert len(rows) > 3 and {type(row["defective"]) for row in rows} == {bool}
    levels = Calibration.from_levels([(score, score**6, 0.0) for score in good(8)], float(rate))  # of two shapes
    assert type(levels.image_threshold) is type(levels.pixel_threshold) is float
