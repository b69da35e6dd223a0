"""The cost model finds the costs that runs were made of, and its command measures real scripts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import done, run
from warm_python import WarmPython

from benchmarks.costs import BUSY, DAY, Fit, Megabytes, Run, Scoring, need

pytestmark = pytest.mark.once
TRUE = Fit(process=5.0, category=2.0, picture=0.3, square=0.002)


def made(pictures: int, categories: int = 1) -> Run:
    seconds = TRUE.seconds(pictures, categories)
    return Run(pictures, categories, seconds, seconds, 500.0)


def test_costs_are_found_again() -> None:
    runs = [made(20), made(50), made(100), made(20, 2)]
    fit = Fit.through(runs)
    assert [fit.process, fit.category, fit.picture, fit.square] == pytest.approx([5.0, 2.0, 0.3, 0.002], rel=1e-6)
    assert fit.seconds(400) == pytest.approx(TRUE.seconds(400)) and TRUE.seconds(10, 3) == 5 + 3 * (2 + 3 + 0.2)
    assert fit.wall(100, 4, 2) == pytest.approx(5 + (TRUE.seconds(100, 4) - 5) / 2)
    true = replace(TRUE, launch=4.0, crowded=1.25)
    both = Fit.through(runs, [Run(n, 2, 0.0, true.wall(n, 2, 2), 0.0) for n in (20, 100)])
    assert (both.launch, both.crowded) == pytest.approx((4.0, 1.25))
    assert both.wall(100, 4, 1) == pytest.approx(TRUE.seconds(100, 4))
    assert both.wall(100, 4, 2) == pytest.approx(5 + 4 + 1.25 * (TRUE.seconds(100, 4) - 5) / 2)


def test_no_cost_is_below_zero() -> None:
    fit = Fit.through([Run(10, 1, 9.0, 9.0, 0), Run(20, 1, 8.0, 8.0, 0), Run(40, 1, 9.5, 9.5, 0)])
    assert min(fit.process, fit.category, fit.picture, fit.square) >= 0


def test_what_a_plant_needs() -> None:
    few, many, drawn = Run(10, 1, 3.0, 3.0, 400), Run(110, 1, 8.0, 8.0, 400), Run(110, 1, 10.2, 10.2, 450)
    scoring = Scoring.through(few, many, drawn)
    assert (scoring.picture, scoring.start, scoring.heat_map) == pytest.approx((0.05, 2.5, 0.02))
    found = need(TRUE, scoring, Megabytes(0.5, 0.2, 3.0, 5.0), 1000, 100, DAY * 27)
    assert found.fit_hours == pytest.approx((5 + 1000 * 52) / 3600)
    assert (found.models_gb, found.exports_gb) == (3.0, 5.0)
    assert found.cores == pytest.approx(27 * 0.05 / BUSY) and found.read_mb == pytest.approx(13.5)
    assert found.written_gb == pytest.approx(DAY * 27 * 0.2 / 1e3) and found.memory_gb == pytest.approx(2 * 0.45)


def test_the_command_measures(data: Path, tmp_path: Path, warm: WarmPython, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(warm.program))
    words = ["--data_path", data, "--category", "washer", "--counts", "3", "8", "--scored", "1", "4"]
    result = done(run("-m benchmarks.plan", *words, "--checks", "--output", tmp_path / "plan"))
    found, page = json.loads((tmp_path / "plan.json").read_text()), (tmp_path / "plan.md").read_text()
    assert [(r["pictures"], r["categories"]) for r in found["runs"]] == [(3, 1), (8, 1), (3, 2)]
    assert all(r["wall"] > 0.1 for r in found["runs"]) and all(size > 0 for size in found["megabytes"].values())
    assert found["command"].startswith("python -m benchmarks.plan --") and len(found["data_sha256"]) == 64
    assert set(found["needs"]) == {"15", "1000", "100000"} and "| 100,000" in page
    assert "two fits: 3 pictures" in result.stdout


def test_bad_options_are_told(data: Path) -> None:
    result = run("-m benchmarks.plan", "--data_path", data, "--category", "washer", "--counts", "9")
    assert result.returncode == 2 and "washer has 8" in result.stderr
    result = run("-m benchmarks.plan", "--data_path", data, "--category", "all")
    assert result.returncode == 2 and "give one" in result.stderr
