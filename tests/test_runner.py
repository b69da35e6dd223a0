"""The runner where nothing else is installed, in several threads, and on lists, patterns and masks."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import paddle
import pytest
from conftest import ROOT, done, refused, run, table
from environments import bare_environment

from deploy import Predictor, Runtime, UserError
from deploy.pictures.listing import list_pictures
from deploy.runtime import program
from deploy.runtime.program import Program


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A Python with paddle, numpy, opencv, safetensors and what these require, beside `infer.py` and `deploy/`."""
    python = bare_environment(tmp_path / "env")
    shutil.copy(ROOT / "infer.py", tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return python


def rows(path: Path) -> dict[str, dict[str, str]]:
    return {row["path"]: row for row in table(path)}


def test_the_runner_needs_paddle_numpy_opencv_and_safetensors_alone(trained: SimpleNamespace, bare: Path) -> None:
    place, pictures = bare.parents[2], trained.data / "washer/test"
    words = ["infer.py", "--stats", trained.export / "stats", "--input_file", pictures, "--save_path", "out"]
    result = subprocess.run([str(bare), *map(str, words)], cwd=place, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = {name: float(row["score"]) for name, row in rows(place / "out/infer.csv").items()}
    known = {name: float(row["score"]) for name, row in rows(trained.run / "washer/eval.csv").items()}
    assert found == {name: pytest.approx(score, rel=1e-5) for name, score in known.items()}


def test_a_program_of_paddle_3_is_refused_by_paddle_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paddle 2.6 crashes while it loads one, whatever the file's name."""
    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    (tmp_path / "model.pdiparams").write_bytes(b"")
    for name in ("model.json", "model.pdmodel"):
        (tmp_path / name).write_text('{"base_code": {"magic": "pir", "version": 1}, "program": {}}')
        with pytest.raises(UserError, match=f"{name} is of Paddle 3, this is Paddle 2.6.2"):
            Program(tmp_path / name, tmp_path / "model.pdiparams")


def test_bf16_is_refused_where_paddle_stays_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paddle 2.6, and Paddle 3 with its programs, gave the scores of fp32."""
    monkeypatch.setattr(program, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    with pytest.raises(UserError, match="--precision bf16 needs Paddle 3: Paddle 2.6.2 stays in fp32"):
        Runtime(precision="bf16").check()
    monkeypatch.setattr(paddle, "__version__", "3.3.1")
    for name in ("model.pdmodel", "model.pdiparams"):
        (tmp_path / name).write_bytes(b"\n")
    with pytest.raises(UserError, match="--precision bf16: .*model.pdmodel is of Paddle 2"):
        Program(tmp_path / "model.pdmodel", tmp_path / "model.pdiparams", Runtime(precision="bf16"))


def test_clones_score_alike_in_threads(trained: SimpleNamespace) -> None:
    predictor = Predictor.load(trained.export / "stats")
    paths = list_pictures(trained.data / "washer/test")
    known = [p.anomaly_map for p in predictor.predict(paths)]

    def many(runner: Predictor) -> list[np.ndarray]:
        return [p.anomaly_map for _ in range(3) for p in runner.predict(paths, workers=1)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(many, [predictor.clone() for _ in range(4)]):
            for one, expected in zip(found, 3 * known):
                np.testing.assert_array_equal(one, expected)


def infer(trained: SimpleNamespace, out: Path, place: object, *words: object):  # noqa: ANN201
    return run("infer.py", "--stats", trained.export / "stats", "-i", place, "--save_path", out, *words)


@pytest.mark.once
def test_lists_and_patterns(trained: SimpleNamespace, tmp_path: Path) -> None:
    folder = trained.data / "washer/test"
    chosen = list_pictures(folder)[3:0:-1]
    (tmp_path / "list.txt").write_text("\n".join([*map(str, chosen), "", ""]))
    done(infer(trained, tmp_path / "a", tmp_path / "list.txt", "--save_pic", "False", "--jsonl", "--save_map"))
    assert list(rows(tmp_path / "a/infer.csv")) == [str(path) for path in chosen]
    objects = [json.loads(line) for line in (tmp_path / "a/infer.jsonl").read_text().splitlines()]
    assert [one["path"] for one in objects] == [str(path) for path in chosen]
    assert [f"{one['score']:.9g}" for one in objects] == [
        row["score"] for row in rows(tmp_path / "a/infer.csv").values()
    ]
    steps = {row["map_step"] for row in rows(tmp_path / "a/infer.csv").values()}
    assert {one["map_step"] for one in objects} == set(map(float, steps)), "a number, as scores are"
    done(infer(trained, tmp_path / "b", folder / "*" / "00[01].png", "--save_pic", "False"))
    matching = sorted(path for path in folder.rglob("*.png") if path.stem in ("000", "001"))
    assert list(rows(tmp_path / "b/infer.csv")) == [str(path) for path in matching]
    (tmp_path / "empty.txt").write_text("\n")
    refused(infer(trained, tmp_path / "c", tmp_path / "empty.txt"), "empty.txt", "no pictures")
    refused(infer(trained, tmp_path / "c", folder / "*.jpg"), "*.jpg")
    (tmp_path / "list.txt").write_text(f"{chosen[0]}\nnowhere.png\n")
    result = infer(trained, tmp_path / "d", tmp_path / "list.txt", "--save_pic", "False")
    assert result.returncode == 2 and "nowhere.png" in result.stderr
    assert list(rows(tmp_path / "d/infer.csv")) == [str(chosen[0])]


@pytest.mark.once
def test_masks_are_the_thresholded_maps(trained: SimpleNamespace, tmp_path: Path) -> None:
    picture = trained.data / "washer/test/chip/000.png"
    predictor = Predictor.load(trained.export / "stats")
    scaled = predictor.calibration.scaled(0.4 * predictor.calibration.image_threshold)
    done(infer(trained, tmp_path, picture, "--save_mask", "--save_pic", "False", "--threshold", scaled))
    [path] = (tmp_path / "masks").rglob("*.png")
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    [prediction] = predictor.predict([picture])
    assert mask.shape == prediction.resized.shape[:2]
    crop, size = predictor.preprocess.crop_size, mask.shape
    top, left = (size[0] - crop) // 2, (size[1] - crop) // 2
    inside = mask[top : top + crop, left : left + crop]
    threshold = predictor.calibration.at(scaled).pixel_threshold
    np.testing.assert_array_equal(inside, 255 * (prediction.anomaly_map > threshold))
    assert (mask == 127).sum() == mask.size - crop * crop
    assert 0 < inside.mean() < 255


@pytest.mark.once
def test_times_come_in_autologs_format(trained: SimpleNamespace, tmp_path: Path) -> None:
    result = done(infer(trained, tmp_path, trained.data / "washer/test", "--enable_benchmark", "--save_pic", "False"))
    for said in (
        "Conf info",
        "cpu_rss(MB):",
        "data_num: 11",
        "inference_time(ms):",
        "preprocess_time(ms) p50:",
        "p99:",
    ):
        assert said in result.stdout, result.stdout


@pytest.mark.once
def test_the_service_refuses_what_it_does_not_do(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = ["infer.py", "--stats", trained.export / "stats", "--save_path", tmp_path]
    refused(run(*words, "--watch", tmp_path, "--jsonl"), "--jsonl")
    refused(run(*words), "--input_file", "--watch")
    refused(run(*words, "--watch", tmp_path / "nowhere"), "nowhere")
