"""What a file says of itself is true: the recorded command repeats the run, and no model passes for another."""

from __future__ import annotations

import importlib
import pickle
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import fitted, table

from datasets.sample import write_sample
from deploy import UserError
from deploy.command_line.parser import Parser, boolean, command_line
from deploy.pictures.decode import decode
from deploy.runtime.program import Runtime
from deploy.storage.tensors import read_header, read_tensors, write_tensors
from evaluation.ranking import rank
from models import METHODS, OrthoAD, variant_name
from models.backbones.weights import read_weights

pytestmark = pytest.mark.once
SMALL = ["--arch", "compact", "--resize", "72", "--crop_size", "64"]
FIGURES = 9


def call(*words: object) -> int | None:
    """Run a script's `main` in this process."""
    script, *rest = map(str, words)
    before = sys.argv
    sys.argv = [script, *rest]
    try:
        return importlib.import_module(script.removesuffix(".py")).main()
    finally:
        sys.argv = before


def again(command: str) -> int | None:
    """Run a recorded command."""
    python, *words = shlex.split(command)
    assert python == "python"
    return call(*words)


def repeats(path: Path) -> list[dict[str, str]]:
    """The rows of a table, which its own command writes again, equal in every cell, where the table was removed."""
    rows = table(path)
    path.unlink()
    again(rows[0]["command"])
    assert table(path) == rows
    return rows


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data set")  # a blank, which commands must quote
    write_sample(folder, seed=3, train=5, good=2, bad=1, categories=["washer", "fabric"])
    return folder


@pytest.fixture(scope="module")
def one(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Training of one seed, evaluated; nothing in it is a default."""
    output = tmp_path_factory.mktemp("one")
    words = ["--method", "h_sample", "--k", "12", "--seed", "7", "--image_score", "max"]
    call("train.py", "--data_path", pictures, "--category", "washer", "--save_path", output, *SMALL, *words,
         "--batch_size", "3", "--sigma", "2.5", "--eval", "--eval_PRO", "--save_pic", "False")  # fmt: skip
    run = output / "h_sample_compact_12"
    return SimpleNamespace(output=output, run=run, model=run / "washer.safetensors", data=pictures)


@pytest.fixture(scope="module")
def several(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Training of seeds 1, 2 and 3, evaluated."""
    output = tmp_path_factory.mktemp("several")
    words = ["--data_path", pictures, "--arch", "compact", "--k", "2", "--save_path", output, "--save_pic", "no"]
    call("train.py", *words, *SMALL[2:], "--seed", "1", "2", "3", "--eval")
    return SimpleNamespace(output=output, run=output / "patchcore_compact_2", data=pictures, words=words)


@pytest.fixture
def copied(one: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """The training of one seed, in a folder that may be changed."""
    run = Path(shutil.copytree(one.run, tmp_path / "out" / one.run.name))
    return SimpleNamespace(output=tmp_path / "out", run=run, model=run / "washer.safetensors", data=one.data)


def test_the_command_of_train_repeats_it(copied: SimpleNamespace, one: SimpleNamespace) -> None:
    before = fitted(one.model)
    command = read_header(one.model, "model")["command"]
    assert f"--save_path {one.output}" in command and "--save_pic none" in command and "--sigma 2.5" in command
    assert table(one.run / "washer_seed7.csv")[0]["command"] == command
    repeats(one.run / "washer_seed7.csv")
    assert fitted(one.model) == before
    assert read_header(one.model, "model")["command"] == command


def test_the_command_of_eval_with_a_model_names_that_model(copied: SimpleNamespace) -> None:
    elsewhere = copied.output / "elsewhere"
    words = ["--model_path", copied.model, "--data_path", copied.data, "--category", "washer", "--save_pic", "False"]
    call("eval.py", *words, "--save_path", elsewhere, "--precision", "fp32", "--test_batch_size", "2", "--eval_PRO")
    rows = repeats(elsewhere / "h_sample_compact_12" / "washer_seed7.csv")
    for word in ("--method h_sample", "--arch compact", "--k 12", "--seed 7", "--precision fp32", "--eval_PRO"):
        assert word in rows[0]["command"]
    assert f"--save_path {elsewhere}" in rows[0]["command"] and "--test_batch_size 2" in rows[0]["command"]
    repeats(elsewhere / "h_sample_compact_12/washer/eval.csv")


def test_the_command_of_predict_has_pictures_and_threshold(copied: SimpleNamespace, tmp_path: Path) -> None:
    places = [copied.data / "washer/test/good", copied.data / "washer/test/chip/000.png"]
    words = ["--threshold", "3.5", "--norm", "False", "--save_mask", "--save_pic", "no", "--save_path", tmp_path]
    call("predict.py", *places, "--model_path", copied.model, *words)
    folder = tmp_path / "h_sample_compact_12/washer"
    rows = repeats(folder / "predict.csv")
    assert len(rows) == 3
    said = shlex.split(rows[0]["command"])
    assert said[2:4] == list(map(str, places))
    assert "--threshold 3.5 --norm False" in rows[0]["command"] and "--method h_sample" in rows[0]["command"]
    assert [int(float(row["score"]) > 3.5) for row in rows] == [int(row["defective"]) for row in rows]


def test_predict_writes_masks_as_infer_does(copied: SimpleNamespace, tmp_path: Path) -> None:
    picture = copied.data / "washer/test/chip/000.png"
    call("predict.py", picture, "--model_path", copied.model, "--save_mask", "--save_path", tmp_path)
    call("export_model.py", "--model_path", copied.model, "--save_dir", tmp_path / "export", "--data_path", tmp_path)
    call("infer.py", "--stats", tmp_path / "export/stats", "--input_file", picture, "--save_mask",
         "--save_path", tmp_path / "infer")  # fmt: skip
    ours, theirs = (
        decode(folder / "masks/000.png")
        for folder in (tmp_path / "h_sample_compact_12/washer/predict", tmp_path / "infer")
    )
    assert set(np.unique(ours)) <= {0, 127, 255} and 127 in ours
    assert (ours != theirs).mean() < 0.001
    rows = repeats(tmp_path / "infer/infer.csv")
    assert "--save_mask" in rows[0]["command"] and f"--save_path {tmp_path / 'infer'}" in rows[0]["command"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "sample"], "--method padim: .* with h_sample"),
        (["--method", "patchcore"], "--method patchcore"),
        (["--arch", "resnet34"], "--arch resnet34: .* with compact"),
        (["--k", "13"], "--k 13: .* with 12"),
        (["--k", "12.5"], "--k 12.5"),
        (["--seed", "521"], "--seed 521: .* with seed 7"),
        (["--crop_size", "96"], "--crop_size 96"),
    ],
)
@pytest.mark.parametrize("script", ["eval.py", "predict.py", "export_model.py"])
def test_a_model_that_is_not_the_one_described_is_refused(
    one: SimpleNamespace, tmp_path: Path, script: str, words: list[str], said: str
) -> None:
    place = ["--data_path", one.data] if script != "predict.py" else [one.data / "washer/test/good"]
    if script == "export_model.py" and words[0] == "--crop_size":
        words, said = ["--img_size", words[1]], "--img_size 96: .* with "
    with pytest.raises(UserError, match=said):
        call(script, *place, "--category", "washer", "--model_path", one.model, "--save_path", tmp_path, *words)
    assert not list(tmp_path.iterdir())


def test_the_right_description_of_a_model_is_accepted(one: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--method", "h_sample", "--arch", "compact", "--k", "12", "--seed", "7", "--save_path", tmp_path]
    call("predict.py", one.data / "washer/test/good", "--model_path", one.model, *words, "--save_pic", "no")
    assert len(table(tmp_path / "h_sample_compact_12/washer/predict.csv")) == 2


def test_tables_have_the_models_seed_in_their_name(copied: SimpleNamespace) -> None:
    words = ["--data_path", copied.data, "--category", "washer", "--save_path", copied.output, "--save_pic", "no"]
    words += ["--method", "h_sample", "--arch", "compact", "--k", "12"]
    kept = copied.run / "washer_seed1.csv"
    kept.write_text("the table of another seed")
    with pytest.raises(UserError, match="--seed 1: .* with seed 7"):
        call("eval.py", *words, "--seed", "1")
    (copied.run / "washer_seed7.csv").unlink()
    call("eval.py", *words)
    assert table(copied.run / "washer_seed7.csv")[0]["seed"] == "7"
    assert kept.read_text() == "the table of another seed"
    assert not (copied.run / "washer_seed521.csv").exists()


@pytest.mark.parametrize(("plain", "other"), [("sample", "h_sample"), ("ortho", "svd_ortho"), ("ortho", "gaussian")])
def test_variants_of_a_method_keep_their_own_folders(pictures: Path, tmp_path: Path, plain: str, other: str) -> None:
    words = ["--category", "washer", "--arch", "compact", "--k", "9", "--save_path", tmp_path]
    for name in (plain, other):
        call("train.py", "--data_path", pictures, *words, *SMALL[2:], "--method", name)
    own = {"sample": "padim", "ortho": "orthoad"}[plain]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"{own}_compact_9", f"{other}_compact_9"])
    for name, folder in ((plain, own), (other, other)):
        call("predict.py", pictures / "washer/test/good", *words, "--method", name, "--save_pic", "no")
        rows = table(tmp_path / f"{folder}_compact_9/washer/predict.csv")
        assert f"--method {folder} " in rows[0]["command"]
    with pytest.raises(UserError, match=f"--method {own}: .* with {other}"):
        model = tmp_path / f"{other}_compact_9/washer.safetensors"
        call("export_model.py", "--model_path", model, "--method", plain)


def test_every_method_is_its_own_variant_by_default() -> None:
    assert [variant_name(name, method.OPTIONS) for name, method in METHODS.items()] == list(METHODS)


def test_a_gaussian_projection_is_left_as_it_was_drawn() -> None:
    options = {"k": 30, "weights": "random", "seed": 4}
    plain = OrthoAD(orthogonal="none", **options).projection.numpy()
    made = OrthoAD(**options).projection.numpy()
    assert plain.shape == made.shape == (448, 30)
    assert abs(plain.mean()) < 0.03 and abs(plain.std() - 1) < 0.03
    assert np.abs(plain.T @ plain / 448 - np.eye(30)).max() > 0.05
    with pytest.raises(UserError, match="qr, svd or none"):
        OrthoAD(orthogonal="other", **options)


def test_several_seeds_keep_their_models_and_give_mean_and_deviation(several: SimpleNamespace) -> None:
    for seed in (1, 2, 3):
        header = read_header(several.run / f"seed{seed}/washer.safetensors", "model")
        assert header["seed"] == seed
    tables = [table(several.run / f"seed{seed}/all_seed{seed}.csv") for seed in (1, 2, 3)]
    rows = table(several.run / "all_seed1+2+3.csv")
    assert "--seed 1 2 3" in rows[0]["command"]
    assert [row["category"] for row in rows] == ["fabric", "washer", "mean"]
    assert {row["seed"] for row in rows} == {"1 2 3"}
    names = list(rows[0])
    assert names[: FIGURES + 1] == list(tables[0][0])[: FIGURES + 1]
    compared = 0
    for number, row in enumerate(rows):
        for name in names[1 : FIGURES + 1]:
            values = [float(of_seed[number][name] or "nan") for of_seed in tables]
            if np.isnan(values).any():
                assert row[name] == row[f"{name}_deviation"] == ""
                continue
            assert float(row[name]) == pytest.approx(np.mean(values), abs=2e-6)
            assert float(row[f"{name}_deviation"]) == pytest.approx(np.std(values, ddof=1), abs=2e-6)
            compared += 1
    assert compared == 3 * 7, "all figures but the two of AU-PRO, which was not asked for"
    assert any(float(row["Pixel_AUROC_deviation"]) > 0 for row in rows)


def test_each_of_several_seeds_is_found_again(several: SimpleNamespace, tmp_path: Path) -> None:
    path = several.run / "seed2/all_seed2.csv"
    before = table(path)
    path.unlink()
    call("eval.py", *several.words, "--seed", "2")
    for old, new in zip(before, table(path)):
        assert {**old, "command": ""} == {**new, "command": ""}
    call("eval.py", *several.words, "--seed", "1", "3")
    assert [row["seed"] for row in repeats(several.run / "all_seed1+3.csv")] == ["1 3"] * 3
    words = [several.data / "washer/test/good", "--category", "washer", "--arch", "compact", "--k", "2"]
    words += ["--save_path", several.output]
    call("predict.py", *words, "--seed", "3", "--save_pic", "no")
    assert {row["seed"] for row in repeats(several.run / "seed3/washer/predict.csv")} == {"3"}
    model = several.run / "seed1/washer.safetensors"
    call("predict.py", words[0], "--model_path", model, "--save_path", tmp_path, "--save_pic", "no")
    assert {row["seed"] for row in repeats(tmp_path / "patchcore_compact_2/seed1/washer/predict.csv")} == {"1"}
    for words in ([], ["--seed", "4"]):
        with pytest.raises(UserError, match="models of seeds 1, 2, 3 are there: give --seed"):
            call("eval.py", *several.words, *words)
    with pytest.raises(UserError, match="--seed 3: .* with seed 1"):
        call("eval.py", *several.words, "--category", "washer", "--model_path", model, "--seed", "1", "3")
    with pytest.raises(UserError, match="every seed once"):
        call("train.py", *several.words, "--seed", "1", "2", "1")


def test_a_model_of_one_seed_goes_before_one_of_several(several: SimpleNamespace, tmp_path: Path) -> None:
    """And models of different seeds make no common table."""
    run = Path(shutil.copytree(several.run, tmp_path / several.run.name))
    words = ["--data_path", several.data, "--arch", "compact", "--k", "2", "--save_path", tmp_path, "--save_pic", "no"]
    for file in (run / "seed2").glob("*.safetensors"):
        shutil.copy(file, run)
    call("eval.py", *words, "--seed", "2")
    assert (run / "all_seed2.csv").is_file()
    shutil.rmtree(run / "all_seed2.csv", ignore_errors=True)
    call("eval.py", *words, "--seed", "1")
    assert not (run / "all_seed1.csv").exists(), "the model of seed 1 is still the one in its folder"
    for file in (run / "seed3").glob("*.safetensors"):
        if file.name != "washer.safetensors":
            shutil.copy(file, run)
    with pytest.raises(UserError, match=r"different seeds \(fabric 3, washer 2\)"):
        call("eval.py", *words)


def test_non_partial_auc_gives_the_predecessors_figure_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Anomaly.Paddle adds up rectangles around the curve's points, over the whole curve: the trapezoids' sum."""
    random = np.random.default_rng(0)
    positives, negatives = random.normal(1, 1, 40).round(1), random.normal(0, 1, 60).round(1)
    levels = np.unique(np.concatenate([positives, negatives]))[::-1]
    rates = np.array([[0, 0], *([(negatives >= t).mean(), (positives >= t).mean()] for t in levels)])
    widths = np.diff(rates[:, 0])
    area = (np.append(widths, 0) / 2 + np.insert(widths, 0, 0) / 2) @ rates[:, 1]
    assert rank(positives, negatives).auroc == pytest.approx(area, abs=1e-12)
    with pytest.raises(UserError, match="no such|--data_path"):
        call("eval.py", "--data_path", "no/such", "--non_partial_AUC")
    assert "note: --non_partial_AUC has no effect" in capsys.readouterr().err


def test_the_predecessors_files_are_named_and_not_executed(one: SimpleNamespace, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (tmp_path / "was-here").touch, ()

    weights = {"conv1.weight": paddle.zeros([2, 2])}
    statistics = {"mean": paddle.zeros([3, 2, 2]), "inv_covariance": paddle.zeros([2, 2, 3, 3])}
    files = {
        "model": ({"params": weights, **statistics}, "a model file of Anomaly.Paddle"),
        "newer": ({"params": weights, "stats": statistics}, "a model file of Anomaly.Paddle"),
        "stats": (statistics, "a stats file of Anomaly.Paddle"),
        "weights": (weights, "a pickle, such as .pdparams weights"),
    }
    for name, (content, _) in files.items():
        paddle.save(content, str(tmp_path / f"{name}.pdparams"))
    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps({"params": Evil()}))
    (tmp_path / "torch.pdparams").write_bytes(b"PK\x03\x04" + bytes(100))
    told = {name: said for name, (_, said) in files.items()}
    told |= {"evil": "a model file of Anomaly.Paddle", "torch": "a zip archive"}
    picture = one.data / "washer/test/good/000.png"
    for name, said in told.items():
        path = tmp_path / f"{name}.pdparams"
        with pytest.raises(UserError, match=f"{path} is {said}.*train again"):
            call("predict.py", picture, "--model_path", path)
        with pytest.raises(UserError, match=f"{path} is {said}.*export again"):
            call("infer.py", "--stats", path, "--input_file", picture)
    assert not (tmp_path / "was-here").exists()
    for name in ("model", "newer"):
        with pytest.raises(UserError, match=f"{name}.pdparams are a model file of Anomaly.Paddle"):
            read_weights(tmp_path / f"{name}.pdparams")


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_as_long_as_a_pickles_first_bytes_is_no_pickle(tmp_path: Path, length: int) -> None:
    path, text = tmp_path / "model", ""
    while True:
        write_tensors(path, {"a": np.zeros(3)}, {"kind": "note", "text": text})
        found = int.from_bytes(path.read_bytes()[:8], "little")
        if found >= length:
            break
        text += "x"
    assert found == length
    assert read_tensors(path, "note")[1]["text"] == text


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="this Paddle build has CUDA")
def test_a_gpu_that_is_not_there_is_refused(
    one: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = one.data / "washer/test/good/000.png"
    calls = {
        "train.py": ["--data_path", one.data, "--save_path", tmp_path, *SMALL],
        "eval.py": ["--data_path", one.data, "--category", "washer", "--model_path", one.model],
        "predict.py": [picture, "--model_path", one.model],
        "export_model.py": ["--model_path", one.model],
    }
    call("export_model.py", "--model_path", one.model, "--save_dir", tmp_path / "export", "--data_path", tmp_path)
    calls["infer.py"] = ["--stats", tmp_path / "export/stats", "--input_file", picture]
    for script, words in calls.items():
        with pytest.raises(UserError, match="--gpu.*no CUDA"):
            call(script, *words, "--gpu", "1")
        cpu = ["--use_gpu", "False"] if script == "infer.py" else ["--cpu"]
        with pytest.raises(UserError, match="--gpu 1 contradict"):
            call(script, *words, "--gpu", "1", *cpu)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    Runtime(use_gpu=True, gpu=1).check()
    with pytest.raises(UserError, match="--gpu 2: Paddle sees 2 GPUs"):
        Runtime(use_gpu=True, gpu=2).check()


def test_recorded_words_survive_a_shell() -> None:
    parser = Parser(prog="x.py")
    parser.add_argument("places", nargs="+")
    parser.add_argument("-n", "--name", default=None)
    parser.add_argument("--numbers", type=float, nargs="+", default=[1.0])
    parser.flag("on", True, "")
    parser.flag("off", False, "")
    parser.no_effect("old", "it is old")
    odd = ["--name=-a 'b\" $HOME", "--numbers", "-2", "3e-7", "--on", "no", "--old", "--", "-x.png", "two words"]
    args = parser.parse(odd)
    assert args.given == ("places", "name", "numbers", "on")
    command = parser.command(args, {"off": True})
    words = shlex.split(command)
    assert words[:4] == ["python", "x.py", "./-x.png", "two words"]
    repeated = parser.parse(words[2:])
    assert vars(repeated) == {**vars(args), "places": ["./-x.png", "two words"], "off": True}
    assert parser.command(repeated, {}) == command
    assert boolean("no") is False and command_line("x.py", {"a": None, "b": 0}) == "python x.py --b 0"
