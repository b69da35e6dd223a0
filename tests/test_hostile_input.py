"""Odd masks, names, tables, options and folders, and odd ends of runs: one line, and nothing silently wrong."""

from __future__ import annotations

import csv
import errno
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import FAST, ROOT, fitted, run
from PIL import Image

from datasets.readers import LabelledPicture, find_categories, read_mask
from datasets.readers.labelled import labelled_pictures
from deploy import Predictor, Preprocess, Runtime, UserError
from deploy.calibration import Calibration
from deploy.command_line.script import run_script
from deploy.pictures.listing import list_pictures
from deploy.pictures.stream import batches, prefetch
from deploy.results.watch import Journal
from deploy.storage.files import ASIDE, LEFT, write_whole
from deploy.storage.table import csv_line, neutral, original
from evaluation.run import mask_note
from models import PatchCore

pytestmark = pytest.mark.once
SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 2)


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


# Masks, tables, options, ends -----------------------------------------------------------------------------------------


def test_masks_of_another_size_are_refused_and_empty_ones_told(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(encoded(".png", SMOOTH[..., 0]))
    labelled, size = LabelledPicture(tmp_path / "x.png", "dent", (tmp_path / "m.png",)), Preprocess(64, 48)
    assert read_mask(labelled, size, (90, 120)).shape == (48, 48)
    with pytest.raises(UserError, match=r"m\.png has 120 x 90 pixels.*x\.png 90 x 120"):
        read_mask(labelled, size, (120, 90))
    some, none = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    assert mask_note([some, some]) == mask_note([None, None]) == ""
    assert "2 of 4" in mask_note([some, None, None, none]) and "1 an empty one" in mask_note([some, none])


def test_cells_are_no_formulas_and_come_back(tmp_path: Path) -> None:
    names = ["=cmd|x.png", "+1x.png", "-a.png", "@x", "\tx", "'=x", "''=x", "'x", "-0.5", "+1e-5", "a=b", "=", "'"]
    for name in names:
        assert original(neutral(name)) == name
        [[cell, number]] = csv.reader([csv_line([name, -0.5])])
        assert cell == neutral(name) and number == "-0.5"
        assert cell in ("-0.5", "+1e-5") or cell[0] not in "=+-@\t"
    journal = Journal(tmp_path / "watch.csv", ("path", "score", "command"))
    for name in names:
        journal.add((name, 1, ""))
    journal.close()
    again = Journal(tmp_path / "watch.csv", ("path", "score", "command"))
    assert again.done == set(names)
    again.close()
    for name in ("=x.png", "'=y.png"):
        (tmp_path / name).write_bytes(encoded(".png", SMOOTH))
    (tmp_path / "t.csv").write_text(csv_line(["path", "label"]) + csv_line(["=x.png", "good"]) + "'=y.png,1\n")
    assert labelled_pictures(tmp_path / "t.csv") == [(tmp_path / "=x.png", False), (tmp_path / "'=y.png", True)]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_windows_editors_are_read(tmp_path: Path, coding: str) -> None:
    (tmp_path / "list.txt").write_bytes("ä.png\r\nb\u2028c.png\r\n".encode(coding))
    assert list_pictures(tmp_path / "list.txt") == [Path("ä.png"), Path("b\u2028c.png")]


def test_numbers_without_sense_are_refused() -> None:
    small = Preprocess(64, 64)

    def model(**words: object) -> PatchCore:
        return PatchCore("compact", weights="random", preprocess=small, **words)

    levels = Calibration((0.5, 1.0), (5.0, 6.0), 1.0, 9.0, 0.05, 1.0, 5.0)
    other = model(layers=("layer2",))
    for call, told in (
        (lambda: model(k="10"), "--k 10 is no number"),
        (lambda: model(k=math.nan), "--k nan"),
        (lambda: model(sigma=1e9), "--sigma"),
        (lambda: model(sigma=65.0), "--sigma 65 must be from 0 to 64, the size of what it smooths"),
        (lambda: model(patch_size=3.0), "--patch_size 3.0"),
        (lambda: model(target_dim="x"), "--target_dim x"),
        (lambda: model(grid=3), "--grid 3"),
        (lambda: model(seed=-1), "--seed -1"),
        (lambda: model(layers="layer2"), "layers layer2: give a list"),
        (lambda: model(seed=2**32), "--seed 4294967296"),
        (lambda: Preprocess(10**9), "--resize 1000000000"),
        (lambda: Preprocess(112, (96, "96")), "--crop_size 96"),
        (lambda: Runtime(threads=10**6).check(), "--cpu_threads 1000000"),
        (lambda: levels.at(math.inf), "--threshold inf"),
        (lambda: levels.at(math.nan), "--threshold nan"),
        (lambda: list(prefetch(len, ["a"], -1)), "--num_workers -1"),
        (lambda: list(batches([], 0)), "batch of 0"),
        (lambda: other.fit([]), "at least two good pictures, got 0"),
        (lambda: other.fit([ONE, ONE], false_alarm="0.1"), "--false_alarm 0.1: give a rate"),
        (lambda: other.fit([ONE, ONE], batch_size=0), "a batch of 0 pictures: give"),
        (lambda: Runtime(precision="fp8").check(), "--precision fp8 is unknown"),
        (lambda: Preprocess(112, (96, 64, 3)), "--crop_size 96 64 3: give one number, or height and width"),
        (lambda: Preprocess(value_range=("0", "5")), "--range 0 5: give two values"),
        (lambda: Preprocess(value_range=(0, 5, 9)), "--range 0 5 9: give two values"),
        (lambda: PatchCore("compact", augment="flip"), "augment 'flip': give models.Augment(('flip',))"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert told in str(error.value)


ONE = np.zeros((64, 64, 3), np.uint8)


def test_numpys_numbers_and_paths_make_the_model_of_plain_ones(tmp_path: Path) -> None:
    """They were accepted, and saving the fitted model failed."""
    pictures = list(np.random.default_rng(1).integers(0, 256, (3, 80, 80, 3)).astype(np.uint8))

    def saved(whole: Callable, real: Callable, folder: Callable, name: str) -> tuple[object, object]:
        size = Preprocess(whole(72), (whole(64), whole(64)), value_range=(whole(0), whole(4095)))
        options = {"num_neighbors": whole(2), "standardise": real(0.5), "spool_dir": folder(tmp_path)}
        model = PatchCore("compact", real(50), ["layer3"], size, "random", seed=whole(7), **options)
        model.fit(pictures, false_alarm=real(0.25))
        return fitted(model.save(tmp_path / f"{name}.safetensors"))

    assert saved(np.int64, np.float32, Path, "numpy") == saved(int, float, str, "plain")


@pytest.mark.parametrize("one", ["x.png", Path("x.png"), ONE, ONE[..., 0], 7], ids=["name", "path", "rgb", "grey", "7"])
def test_one_picture_in_place_of_a_list_is_told(trained: SimpleNamespace, one: object) -> None:
    model = PatchCore.load(trained.model)
    predictor = Predictor.load(trained.export / "stats")
    for call in (model.fit, model.update, model.forget, model.predict, predictor.predict):
        with pytest.raises(UserError, match=r"^pictures must be a list, got .*: give \[picture\]"):
            list(call(one))


def test_what_is_neither_path_nor_array_is_told(trained: SimpleNamespace) -> None:
    predictor = Predictor.load(trained.export / "stats")
    for odd in (None, 0, [[1]], Image.fromarray(ONE)):
        with pytest.raises(UserError, match=f"a path or an array uint8 .*, got {type(odd).__name__}: "):
            list(predictor.predict([odd]))


def test_a_closed_pipe_is_no_success(tmp_path: Path) -> None:
    script = "from deploy.command_line.script import run_script\nrun_script(lambda: print('x' * 100_000) or print('y'))"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 141 and len(ended.stderr.splitlines()) == 1 and "not read any more" in ended.stderr


def test_what_killed_runs_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new = time.time() - 2 * LEFT, time.time()
    for name, when in ((f"{ASIDE}old", old), (f"{ASIDE}new", new), ("other", old)):
        (tmp_path / f"{name}-folder").mkdir()
        for path in (tmp_path / name, tmp_path / f"{name}-folder" / "x", tmp_path / f"{name}-folder"):
            path.is_dir() or path.write_text("x")
            os.utime(path, (when, when))
    write_whole(tmp_path / "result", "x")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"result", "other", "other-folder", f"{ASIDE}new", f"{ASIDE}new-folder"}


# Data sets ------------------------------------------------------------------------------------------------------------


def test_folders_that_mean_good_are_good_or_told(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    for name in ("train/Good", "test/good ", "test/GOOD", "test/OK", "test/Passed", "test/dent"):
        (tmp_path / "thing" / name).mkdir(parents=True)
        (tmp_path / "thing" / name / "a.png").write_bytes(encoded(".png", SMOOTH))
    [category] = find_categories(tmp_path)
    assert len(category.train_pictures()) == 1
    found = {str(picture.path.parent.name): picture.defective for picture in category.test_pictures()}
    assert found == {"good ": False, "GOOD": False, "OK": False, "Passed": True, "dent": True}
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1 and "Passed counts as a kind of defect" in told[0]


def test_what_is_passed_over_is_told(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "in/linked").symlink_to(tmp_path)
    for name in ("a.png", "b.jfif", "c.GIF", "d.gif", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"x")
    assert [path.name for path in list_pictures(tmp_path / "in")] == ["a.png"]
    [line] = capfd.readouterr().err.splitlines()
    assert "3 files of other kinds (.gif, .jfif) and 1 folders that are links" in line


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "dent/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(list_pictures(tmp_path)) == 2
    asked = os.scandir

    def denied(place: str) -> object:  # root may read all
        if Path(place).name == "dent":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return asked(place)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"^cannot read folder .*/dent: Permission denied; allow it"):
        list_pictures(tmp_path)


def test_what_may_not_be_used_is_one_line(capfd: pytest.CaptureFixture) -> None:
    def forbidden() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/secret/parts")

    with pytest.raises(SystemExit) as end:
        run_script(forbidden)
    line = "error: cannot use /secret/parts: Permission denied; allow it, or give another path\n"
    assert end.value.code == 2 and capfd.readouterr().err == line


def test_a_stats_file_that_may_not_be_read_is_not_called_damaged(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, _: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("deploy.storage.tensors.open", denied, raising=False)
    with pytest.raises(UserError, match=r"^cannot read stats file .*stats: Permission denied; check the path$"):
        Predictor.load(trained.export / "stats")


def test_one_bad_category_does_not_stop_the_others(data: Path, tmp_path: Path) -> None:
    for name in ("washer", "fabric"):
        (tmp_path / "data").mkdir(exist_ok=True)
        shutil.copytree(data / name, tmp_path / "data" / name)
    (tmp_path / "data/fabric/train/good/000.png").write_bytes(b"no picture")
    words = ["--data_path", tmp_path / "data", *FAST, "--save_path", tmp_path / "out"]
    result = run("train.py", *words)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "error: fabric: cannot read picture" in result.stderr and "1 of 2 (fabric)" in result.stdout
    assert [path.name for path in (tmp_path / "out").rglob("washer.safetensors")] == ["washer.safetensors"]
    named = ["--arch", "compact", "--k", "2", "--save_path", tmp_path / "out", "--save_pic", "none"]
    result = run("eval.py", *words[:2], *named)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "error: fabric: no model at" in result.stderr and "1 of 2 (fabric)" in result.stdout
    assert len(list((tmp_path / "out").rglob("washer/eval.csv"))) == 1
