"""Few and dirty training pictures: `--shots`, and heat maps of those that look least like the others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, done, refused, run

from datasets.readers.category import draw
from deploy import Preprocess, UserError
from deploy.pictures.decode import decode
from deploy.results.heatmap import panel
from deploy.storage.tensors import read_tensors
from models import PaDiM

pytestmark = pytest.mark.once


def test_shots_are_drawn_by_the_seed_and_fewer_are_among_more(data: Path) -> None:
    everything = sorted((data / "washer/train/good").iterdir())
    draws = {(shots, seed): draw(everything, shots, seed) for shots in (2, 4, 8) for seed in (1, 2, 3)}
    assert draws[4, 1] == draw(everything, 4, 1)
    assert {len(drawn) for (shots, _), drawn in draws.items() if shots == 4} == {4}
    assert len({tuple(draws[4, seed]) for seed in (1, 2, 3)}) > 1
    assert set(draws[2, 1]) < set(draws[4, 1]) < set(everything)
    assert draws[4, 1] == sorted(draws[4, 1]) and draws[8, 1] == everything
    for shots in (1, 9):
        with pytest.raises(UserError, match=f"--shots {shots}: give 2 to 8"):
            draw(everything, shots, 0)


def test_train_draws_heat_maps_of_odd_pictures_and_none_of_an_earlier_fit_stays(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "washer", *FAST, "--save_path", tmp_path]
    odd = tmp_path / "patchcore_compact_2/washer/odd"
    done(run("train.py", *words, "--shots", 2, "--save_model", "False"))
    assert not odd.exists()

    result = done(run("train.py", *words, "--shots", 4, "--seed", 1))
    [names] = re.findall("least like the others: (.*)", result.stdout)
    named = [Path(word).stem for word in re.findall(r"(\S+) \(", names)]
    assert sorted(path.name for path in odd.iterdir()) == [f"{i:02}_{name}.png" for i, name in enumerate(named, 1)]
    assert f"heat maps of the training pictures least like the rest: {odd}\n" in result.stdout

    result = done(run("train.py", *words, "--shots", 2, "--seed", 1))
    assert len(list(odd.iterdir())) == 2
    header = read_tensors(tmp_path / "patchcore_compact_2/washer.safetensors", "model")[1]
    assert header["data"]["pictures"] == 2 and "--shots 2" in header["command"]
    refused(run("train.py", *words, "--shots", 9), "--shots 9: give 2 to 8")


def test_odd_pictures_have_the_held_out_maps_and_scores(data: Path) -> None:
    paths = sorted((data / "washer/train/good").iterdir())
    pictures = [decode(path) for path in paths]
    pictures[5][40:60, 40:60] = (255, 0, 255)
    model = PaDiM("compact", 4, ["layer2"], Preprocess(112, 96), "random")
    answers = []
    fit_statistics = model.fit_statistics

    def kept(*arguments: object) -> object:
        for anomaly_map, score in fit_statistics(*arguments):
            answers.append((anomaly_map.copy(), score))
            yield anomaly_map, score

    model.fit_statistics = kept
    model.fit(pictures)
    odd = list(model.odd())
    assert odd[0].name == "picture 5"
    assert [one.score for one in odd] == sorted((score for _, score in answers), reverse=True)[:3]
    for one in odd:
        number = int(one.name.split()[1])
        assert one.score == answers[number][1]
        np.testing.assert_array_equal(one.anomaly_map, answers[number][0])
        np.testing.assert_array_equal(one.resized, model.preprocess.resized(pictures[number]))
        assert panel(one, model.calibration, model.preprocess).ndim == 3
