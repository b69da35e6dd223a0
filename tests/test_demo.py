"""The embedded backbone finds the sample data's flaws, and random features do not: what the demo shows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import done, run

from datasets.sample import write_sample

pytestmark = pytest.mark.once


def image_auroc(data: Path, output: Path, *words: str) -> list[float]:
    settings = ["--arch", "compact", "--layers", "layer1", "layer2", "--k", "2", "--eval", "--save_pic", "False"]
    settings += ["--resize", "256", "--crop_size", "224"]
    done(run("train.py", "--data_path", data, *settings, "--save_path", output, *words))
    with open(output / "patchcore_compact_2/all_seed521.csv", newline="") as file:
        return [float(row["Image_AUROC"]) for row in csv.DictReader(file) if row["category"] != "mean"]


def test_embedded_weights_see_what_random_ones_do_not(tmp_path: Path) -> None:
    """As in `make demo`, on fewer pictures; no weights are at hand but the repository's."""
    write_sample(tmp_path / "data", train=16, good=8, bad=2, categories=["connector", "tablet"])
    found = image_auroc(tmp_path / "data", tmp_path / "embedded")
    random = image_auroc(tmp_path / "data", tmp_path / "random", "--weights", "random")
    assert np.mean(found) >= 0.93
    assert np.mean(random) <= np.mean(found) - 0.1
