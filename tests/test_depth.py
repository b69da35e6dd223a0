"""Pictures of 12 and 16 bits keep the range of their values."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import FAST, done, fitted, refused, run, table

from deploy import Preprocess, UserError
from deploy.pictures.decode import decode_bgr
from options.pictures import value_range

pytestmark = pytest.mark.once


def save_deep(path: Path, values: np.ndarray) -> Path:
    """Write uint16 values, grey or BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values.astype(np.uint16))
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_limits_become_0_and_255(tmp_path: Path, suffix: str) -> None:
    values = np.arange(40 * 50).reshape(40, 50) * 2
    path = save_deep(tmp_path / f"a.{suffix}", values)
    expected = np.clip(np.round((values - 100) * 255 / 2000), 0, 255)
    np.testing.assert_array_equal(decode_bgr(path, (100, 2100))[..., 1], expected)
    with pytest.raises(UserError, match="--range 0 4095"):
        decode_bgr(path)
    size = Preprocess(32, 32, "stretch", value_range=(100, 2100))
    assert Preprocess.from_dict(size.to_dict()) == size
    assert size.resized(path).max() > 200 and "value_range" not in Preprocess().to_dict()


def test_the_range_is_that_of_the_training_pictures_and_a_tenth_more(tmp_path: Path) -> None:
    paths = [save_deep(tmp_path / f"{i}.png", np.full((8, 8), 1000 * i + 500) + np.eye(8)) for i in range(3)]
    assert value_range(paths) == (299, 2702)  # 500 to 2501
    cv2.imwrite(str(tmp_path / "8.png"), np.zeros((8, 8), np.uint8))
    os.mkfifo(tmp_path / "pipe.png")
    assert value_range([tmp_path / name for name in ("8.png", "pipe.png", "none.png")]) is None
    assert value_range([save_deep(tmp_path / "9.png", np.full((8, 8), 60000) + np.eye(8))]) == (59999, 60002)


def test_twelve_bits_give_the_model_and_the_scores_of_eight(trained: SimpleNamespace, tmp_path: Path) -> None:
    place = trained.data / "washer"
    for path in place.rglob("*.png"):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        deep = picture if "ground_truth" in path.parts else picture.astype(np.uint16) * 16
        save_path = tmp_path / "data/washer" / path.relative_to(place)
        save_path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(save_path), deep)
    data, out = tmp_path / "data", tmp_path / "out"
    words = ["--data_path", data, "--category", "washer", *FAST, "--save_path", out, "--save_pic", "False"]
    said = done(run("train.py", *words, "--range", "0", "4080", "--eval", "--eval_PRO")).stdout
    assert "16-bit values from 0 to 4080 become 0 to 255" in said
    model = out / trained.run.name / "washer.safetensors"
    ours, theirs = fitted(model), fitted(trained.model)
    assert ours[1] == theirs[1] and ours[0]["preprocess"].pop("value_range") == [0, 4080] and ours[0] == theirs[0]
    figures = [
        {name: value for name, value in table(folder / "washer_seed521.csv")[0].items() if name != "command"}
        for folder in (model.parent, trained.run)
    ]
    assert figures[0] == figures[1]

    done(run("export_model.py", "--model_path", model, "--save_dir", tmp_path / "export"))
    picture = data / "washer/test/chip/000.png"
    more = ["-i", picture, "--save_path", tmp_path / "infer", "--save_pic", "False"]
    done(run("infer.py", "--stats", tmp_path / "export/stats", *more))
    [score] = [row["score"] for row in table(trained.run / "washer/eval.csv") if row["path"].endswith("chip/000.png")]
    assert float(table(tmp_path / "infer/infer.csv")[0]["score"]) == pytest.approx(float(score), rel=1e-5)
    without = run("infer.py", "--stats", trained.export / "stats", *more)
    assert without.returncode == 2 and "12-bit" in without.stderr and "--range" in without.stderr
    refused(run("train.py", *words, "--range", "9", "9"), "--range 9 9")
    again = [*words[:2], "--update", model, "--save_path", out]
    refused(run("train.py", *again, "--range", "0", "4095"), "--range", "was trained with")


def test_twelve_bits_are_seen_without_an_option(trained: SimpleNamespace, tmp_path: Path) -> None:
    for path in sorted((trained.data / "washer/train/good").iterdir())[:4]:
        save_deep(tmp_path / "nuts" / path.name, cv2.imread(str(path)).astype(np.uint16) * 16)
    said = done(run("-m datasets", tmp_path / "nuts")).stdout
    assert "uint16 x 3 (4)" in said and "training can start" in said
    words = ["--data_path", tmp_path / "nuts", *FAST, "--save_path", tmp_path, "--save_pic", "False"]
    assert "16-bit values from " in done(run("train.py", *words)).stdout
