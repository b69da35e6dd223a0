"""The scripts as users run them, on generated pictures: what they write, and that they agree."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import FAST, ROOT, done, fitted, refused, run, run_process, table

from deploy.pictures.decode import decode, decode_mask
from deploy.storage.tensors import read_tensors
from models import load_model


def test_train_writes_what_the_interface_says(trained: SimpleNamespace) -> None:
    rows = table(trained.run / "washer_seed521.csv")
    assert list(rows[0])[:4] == ["category", "Image_AUROC", "Pixel_AUROC", "PRO_score"]
    assert [row["category"] for row in rows] == ["washer", "mean"]
    assert all(0 <= float(rows[0][figure]) <= 1 for figure in list(rows[0])[1:10])
    assert rows[0]["Pixel_AUROC"] == rows[1]["Pixel_AUROC"]
    for word in ("train.py", "--category washer", "--seed 521", "--crop_size 96"):
        assert word in rows[0]["command"]
    _, header = read_tensors(trained.model, "model")
    assert header["versions"]["paddle"] in rows[0]["versions"]
    assert (header["data"]["pictures"], header["data"]["sha256"]) == (8, rows[0]["data_sha256"])
    assert header["command"] == rows[0]["command"]
    for kind in ("good", "scratch", "chip", "stain", "dent"):
        panels = sorted((trained.run / "washer/heatmaps" / kind).iterdir())
        assert len(panels) == (3 if kind == "good" else 2)
        assert decode(panels[0]).std() > 10


def test_eval_predict_and_infer_give_one_score(trained: SimpleNamespace, tmp_path: Path) -> None:
    pictures = trained.data / "washer/test"
    threshold = load_model(trained.model).calibration.image_threshold
    sheet = table(trained.run / "washer/eval.csv")  # train --eval and eval.py write it alike
    assert list(sheet[0])[:7] == ["path", "score", "scaled", "defective", "p_value", "p_tail", "kind"]
    of_eval = {row["path"]: float(row["score"]) for row in sheet}
    done(run("predict.py", pictures, *trained.named))
    of_predict = table(trained.run / "washer/predict.csv")
    assert list(of_predict[0])[:2] == ["path", "score"]
    for batch, onednn in ((1, True), (4, True), (3, False)):
        out = tmp_path / f"{batch}{onednn}"
        words = ["--batch_size", batch, "--enable_mkldnn", onednn, "--save_path", out, "--cpu_threads", 1]
        done(run("infer.py", "--stats", trained.export / "stats", "--input_file", pictures, *words))
        of_infer = table(out / "infer.csv")
        assert [row["path"] for row in of_infer] == [row["path"] for row in of_predict] == list(of_eval)
        for a, b, c in zip(of_infer, of_predict, of_eval.values()):
            assert float(a["score"]) == pytest.approx(c, rel=1e-5)
            assert float(b["score"]) == pytest.approx(c, rel=1e-5)
            assert a["defective"] == b["defective"] == str(int(c > threshold))
        assert len(list((out / "heatmaps").rglob("*.png"))) == len(of_infer)


def test_eval_repeats_trains_figures(trained: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(trained.run, tmp_path / trained.run.name)
    path = tmp_path / trained.run.name / "washer_seed521.csv"
    before = table(path)
    words = [*trained.named[:-1], tmp_path, "--data_path", trained.data]
    result = done(run("eval.py", *words, "--eval_PRO", "--eval_threthold_step", "100", "--test_batch_size", "4"))
    assert "--eval_threthold_step has no effect" in result.stderr
    assert "eval.py" in table(path)[0]["command"]
    for old, new in zip(before, table(path)):
        assert {k: v for k, v in old.items() if k != "command"} == {k: v for k, v in new.items() if k != "command"}


@pytest.mark.once
def test_same_seed_same_bytes_whatever_the_name(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = [word if word != trained.output else tmp_path for word in trained.words]
    done(run("train.py", *words, "--method=coreset", "--eval", "--eval_PRO=True", "--save_pic=False"))
    again = tmp_path / "patchcore_compact_2"
    assert fitted(again / "washer.safetensors") == fitted(trained.model)
    assert {p.name for p in (again / "washer").iterdir()} == {"eval.csv", "times.csv"}, "no heat maps were asked for"
    for new, old in zip(table(again / "washer_seed521.csv"), table(trained.run / "washer_seed521.csv")):
        assert {k: v for k, v in new.items() if k != "command"} == {k: v for k, v in old.items() if k != "command"}
    done(run("train.py", *words, "--seed", "5"))
    assert fitted(again / "washer.safetensors")[1] != fitted(trained.model)[1]


def test_all_categories_one_backbone_and_the_predecessors_options(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "all", *FAST, "--save_path", tmp_path]
    words += ["--save_model_subfolder=False", "--inc", "--einsum", "--debug"]
    words += ["--eval", "--eval_PRO", "--non_partial_AUC", "--cpu", "--num_workers", "0", "--test_batch_size", "2"]
    result = done(run("train.py", *words, "--model_name", "PatchCore", "--image_score", "max"))
    for name in ("--inc", "--einsum", "--debug", "--non_partial_AUC"):
        assert f"note: {name} has no effect" in result.stderr
    assert "RANDOM" in result.stdout
    rows = table(tmp_path / "all_seed521.csv")
    assert [row["category"] for row in rows] == ["fabric", "washer", "mean"]
    mean = np.mean([float(row["PRO_score"]) for row in rows[:2]])
    assert float(rows[2]["PRO_score"]) == pytest.approx(mean, abs=1e-6)
    assert len(list(tmp_path.glob("compact-*.safetensors"))) == 1
    model = load_model(tmp_path / "washer.safetensors")
    assert "neighbors" not in model.statistics(), "max needs no neighbours"
    done(run("export_model.py", "--model_path", tmp_path / "fabric.safetensors", "--save_dir", tmp_path / "export"))
    assert (tmp_path / "export" / "stats").is_file()


def test_statistics_of_another_category_fit_the_same_program(data: Path, tmp_path: Path) -> None:
    """One program per method and backbone: the stats file alone decides the category."""
    done(run("train.py", "--data_path", data, *FAST, "--save_path", tmp_path))
    folder = tmp_path / "patchcore_compact_2"
    for name in ("washer", "fabric"):
        done(run("export_model.py", "--model_path", folder / f"{name}.safetensors", "--save_dir", tmp_path / name))
    assert (tmp_path / "washer/model.pdiparams").read_bytes() == (tmp_path / "fabric/model.pdiparams").read_bytes()


@pytest.mark.once
def test_threshold_decides_scaled_or_raw(trained: SimpleNamespace) -> None:
    picture = trained.data / "washer/test/chip/000.png"
    words = [
        picture,
        *trained.named,
        "--save_pic",
        "False",
    ]
    done(run("predict.py", *words))
    row = table(trained.run / "washer/predict.csv")[0]
    score, scaled = float(row["score"]), float(row["scaled"])
    for threshold, norm, verdict in ((scaled - 0.1, True, "1"), (scaled + 0.1, True, "0"), (score * 0.9, False, "1"), (score * 1.1, False, "0")):  # fmt: skip  # noqa: E501
        done(run("predict.py", *words, "--threshold", threshold, "--norm", norm))
        assert table(trained.run / "washer/predict.csv")[0]["defective"] == verdict


@pytest.mark.once
def test_categories_without_masks_defects_or_good_pictures(data: Path, tmp_path: Path) -> None:
    for name in ("nomask", "nodefect", "nogood"):
        shutil.copytree(data / "washer", tmp_path / "data" / name)
    shutil.rmtree(tmp_path / "data/nomask/ground_truth")
    for kind in ("chip", "scratch", "stain", "dent"):
        shutil.rmtree(tmp_path / "data/nodefect/test" / kind)
    shutil.rmtree(tmp_path / "data/nogood/test/good")
    words = ["--data_path", tmp_path / "data", *FAST, "--save_path", tmp_path / "out", "--eval", "--eval_PRO"]
    done(run("train.py", *words))
    rows = {row["category"]: row for row in table(tmp_path / "out/patchcore_compact_2/all_seed521.csv")}
    assert rows["nomask"]["Image_AUROC"] and not rows["nomask"]["Pixel_AUROC"] and not rows["nomask"]["PRO_score"]
    assert not rows["nodefect"]["Image_AUROC"] and not rows["nodefect"]["Pixel_AUROC"]
    assert not rows["nogood"]["Image_AUROC"] and rows["nogood"]["Pixel_AUROC"] and rows["nogood"]["PRO_score"]
    assert rows["mean"]["Image_AUROC"] == rows["nomask"]["Image_AUROC"]


@pytest.mark.once
def test_one_bad_picture_is_skipped_counted_and_told(trained: SimpleNamespace, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.data / "washer/test/good", tmp_path / "pictures"))
    (folder / "001.png").write_bytes(b"no picture")
    for result, path in (
        (
            run("predict.py", folder, *trained.named),
            trained.run / "washer/predict.csv",
        ),
        (
            run("infer.py", "--stats", trained.export / "stats", "--input_file", folder, "--save_path", tmp_path / "o"),
            tmp_path / "o/infer.csv",
        ),
    ):
        assert result.returncode == 2
        assert result.stderr.count("001.png") == 1 and "1 of 3 pictures" in result.stderr
        assert "Traceback" not in result.stderr
        assert [Path(row["path"]).name for row in table(path)] == ["000.png", "002.png"]


@pytest.mark.once
def test_train_on_jpg_grey_and_uneven_pictures(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "data/mixed product/train/good"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, (mode, suffix) in enumerate([("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("P", "png")] * 2):
        picture = Image.fromarray(random.integers(0, 256, (130, 140 + number, 3), dtype=np.uint8)).convert(mode)
        picture.save(folder / f"{number}.{suffix}")
    words = ["--data_path", tmp_path / "data", "--category", "mixed product", *FAST, "--save_path", tmp_path / "out"]
    done(run("train.py", *words))
    assert (tmp_path / "out/patchcore_compact_2/mixed product.safetensors").is_file()
    (folder / "bad.png").write_text("x")
    result = done(run("train.py", *words, "--skip_bad"))
    assert "bad.png" in result.stderr and "1 pictures skipped" in result.stdout


@pytest.mark.once
def test_no_progress_bar_without_a_terminal_and_help_works(trained: SimpleNamespace, tmp_path: Path) -> None:
    for script in ("train.py", "eval.py", "predict.py", "export_model.py", "infer.py"):
        assert "usage" in done(run(script, "--help")).stdout
    words = ["--data_path", trained.data, "--category", "washer", "--model_path", trained.model]
    assert done(run_process("eval.py", *words, "--save_path", tmp_path)).stderr == ""


@pytest.mark.once
def test_a_terminal_sees_a_progress_bar(trained: SimpleNamespace, tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    words = ["eval.py", "--data_path", trained.data, "--category", "washer", "--model_path", trained.model]
    words += ["--save_path", tmp_path]
    seen, here = b"", os.getcwd()
    os.chdir(ROOT)
    try:
        pid, terminal = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
            os.execv(sys.executable, [sys.executable, *map(str, words)])
    finally:
        os.chdir(here)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    assert os.waitpid(pid, 0)[1] == 0
    assert b"test washer" in seen and b"/11 [" in seen


@pytest.mark.parametrize(
    ("method", "fit", "size"),
    [
        ("patchcore", "stretch", ["64", "128"]),
        ("padim", "pad", ["96", "64"]),
        ("spade", "crop", ["64", "96"]),
    ],
)
def test_inputs_that_are_no_squares(method: str, fit: str, size: list[str], data: Path, tmp_path: Path) -> None:
    """From training to inference; heat maps and masks have the shape that the program saw."""
    options = ["--arch", "compact", "--weights", "random", "--layers", "layer2", "layer3", "--k", "4"]
    words = ["--category", "washer", "--method", method, "--save_path", tmp_path]
    done(
        run(
            "train.py",
            "--data_path",
            data,
            *words,
            *options,
            "--fit",
            fit,
            "--crop_size",
            *size,
            "--resize",
            "96",
            "--eval",
            "--eval_PRO",
        )
    )
    folder = tmp_path / f"{method}_compact_4"
    model = read_tensors(folder / "washer.safetensors", "model")[1]
    assert model["preprocess"]["fit"] == fit and model["preprocess"]["crop_size"] == [int(side) for side in size]
    assert f"--crop_size {' '.join(size)}" in model["command"] and f"--fit {fit}" in model["command"]
    named = [*words, "--arch", "compact", "--k", "4"]
    done(run("eval.py", "--data_path", data, *named, "--crop_size", *size, "--eval_PRO"))
    refused(run("eval.py", "--data_path", data, *named, "--crop_size", "64"), "--crop_size 64")
    done(run("export_model.py", "--data_path", data, *named))
    pictures, stats = data / "washer/test/good", folder / "washer/export/stats"
    done(
        run(
            "infer.py",
            "--stats",
            stats,
            "--input_file",
            pictures,
            "--save_path",
            tmp_path / "out",
            "--save_mask",
            "True",
        )
    )
    evaluated = {row["path"]: float(row["score"]) for row in table(folder / "washer/eval.csv")}
    for row in table(tmp_path / "out/infer.csv"):
        [known] = [score for path, score in evaluated.items() if path.endswith(row["path"][-12:])]
        assert float(row["score"]) == pytest.approx(known, rel=1e-5)
    [mask, *_] = sorted((tmp_path / "out/masks").rglob("*.png"))
    assert decode_mask(mask).shape == {"stretch": (64, 128), "pad": (96, 64), "crop": (96, 96)}[fit]
