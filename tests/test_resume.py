"""A run over several categories that is stopped and started again, and two runs in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import FAST, ROOT, done, refused, run
from warm_python import Process, WarmPython

from deploy import Preprocess
from deploy.storage.files import ASIDE, exclusive
from models import Augment, OrthoAD, build_model, is_finished, load_model

pytestmark = pytest.mark.once
MOMENTS = 1
"""At which a run is killed, drawn from the time that it takes, beside one behind its first model; 30 take a minute."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below it, but for what a killed run was writing aside, which a run removes when it is a day old.

    What stages took is never the same.
    """
    names = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if ASIDE not in name and path.name != "times.csv"}


def test_a_finished_category_is_kept_while_nothing_changed(trained: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(trained.output, tmp_path / "out")
    model = tmp_path / "out" / trained.run.name / "washer.safetensors"
    before = contents(tmp_path / "out")
    said = done(run("train.py", *trained.words[:-1], tmp_path / "out")).stdout
    assert f"kept: {model} was fitted before" in said and contents(tmp_path / "out") == before

    pictures = sorted((trained.data / "washer/train/good").iterdir())
    size, shorter, options = Preprocess(112, 96), Preprocess(112, 64), load_model(model).options

    def finished(
        model: Path = model, rate: float = 0.05, shots: int = 8, preprocess: Preprocess = size, **more: Any
    ) -> bool:
        settings = {"k": 2, "seed": 521, "preprocess": preprocess, **options, **more}
        layers = [["layer2", "layer3"]]
        built = build_model("patchcore", archs=["compact"], layers=layers, weights=["random"], **settings)
        return is_finished(built, model, pictures[:shots], 1, None, rate)

    assert finished()
    for changed in (
        {"rate": 0.1}, {"shots": 7}, {"seed": 5}, {"k": 3}, {"preprocess": shorter}, {"sampler": "random"},
    ):  # fmt: skip
        assert not finished(**changed), changed
    loaded = load_model(model)
    loaded.set_thresholds(
        loaded.calibration.set_by(1.0, {"goal": "f1", "good": 1, "defective": 1, "pictures": []}), model
    )
    assert not finished(), "labelled pictures set its threshold"
    shutil.copy(trained.model, model)
    [backbone] = model.parent.glob("compact-*.safetensors")
    backbone.rename(backbone.with_suffix(".away"))
    assert not finished(), "its backbone is gone"
    backbone.with_suffix(".away").rename(backbone)
    assert finished()
    model.write_bytes(trained.model.read_bytes()[:-1])
    assert not finished(), "it is damaged"
    assert not finished(tmp_path / "none")


def test_another_projection_in_the_same_file_is_another_model(tmp_path: Path) -> None:
    pictures = list(np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), np.uint8))
    settings = {"k": 4, "weights": "random", "preprocess": Preprocess(64, 64), "orthogonal": "none"}
    projection, place = OrthoAD("compact", **settings).projection.numpy(), tmp_path / "projection.npy"

    def built(scale: float) -> OrthoAD:
        np.save(place, scale * projection)
        return OrthoAD("compact", **settings, load_projection=str(place))

    file = built(1).fit(pictures).save(tmp_path / "thing.safetensors")
    assert [is_finished(built(scale), file, pictures, 1, None, 0.05) for scale in (1, 2)] == [True, False]


def test_a_model_with_copies_is_not_one_without(tmp_path: Path) -> None:
    pictures = list(np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), np.uint8))

    def built(augment: Augment | None) -> OrthoAD:
        return OrthoAD("compact", k=4, weights="random", preprocess=Preprocess(64, 64), augment=augment)

    flipped = Augment(("flip",), forced=True)
    for one, other in ((flipped, None), (None, flipped)):
        file = built(one).fit(pictures).save(tmp_path / "thing.safetensors")
        assert [is_finished(built(asked), file, pictures, 1, None, 0.05) for asked in (one, other)] == [True, False]


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_files(
    data: Path, tmp_path: Path, warm: WarmPython
) -> None:
    def started(place: str) -> Process:
        command = ["train.py", "--data_path", data, *FAST, "--save_path", "out", "--num_workers", "1"]
        (tmp_path / place).mkdir(exist_ok=True)
        said = os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        files = [os.open(os.devnull, os.O_RDONLY), said, os.dup(said)]
        words = [str(ROOT / command[0]), *map(str, command[1:])]
        process = warm.start(words, tmp_path / place, files)
        for file in files:
            os.close(file)
        return process

    begin = time.perf_counter()
    assert started("whole").wait() == 0
    took = time.perf_counter() - begin
    first = tmp_path / "killed/out/patchcore_compact_2/fabric.safetensors"
    for moment in (None, *np.random.default_rng(7).uniform(0, took, MOMENTS)):
        process, begin = started("killed"), time.perf_counter()
        while moment is None and not first.exists() and time.perf_counter() < begin + 120:
            time.sleep(0.01)
        time.sleep(moment or 0)
        with suppress(ProcessLookupError):  # it was faster than the first
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert started("killed").wait() == 0
        assert contents(tmp_path / "killed") == contents(tmp_path / "whole"), moment
        shutil.rmtree(tmp_path / "killed")
    assert "kept: " in (tmp_path / "said").read_text()


def test_two_runs_in_one_folder_exclude_each_other(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "washer", *FAST, "--save_path", tmp_path / "out"]
    folder = tmp_path / "out/patchcore_compact_2"
    with exclusive(folder):
        refused(run("train.py", *words), "another run is writing", str(folder))
    assert not folder.exists() and not (tmp_path / "out").exists(), "what was made and stayed empty is gone"
    done(run("train.py", *words, "--save_pic", "False"))
