"""Paddle's automated test chain: every method's lite chain, Anomaly.Paddle's configs as written, and broken steps."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import paddle
import pytest
from conftest import ROOT, WEIGHTS, chain_checkout, needs_real, run
from warm_python import WarmPython

pytestmark = pytest.mark.once
NO_WEIGHTS = {
    "PADDLEPATCH_WEIGHTS": "",
    "HOME": "/nonexistent",
}  # no folder of weights, and Paddle's cache is not there
CONFIGS = sorted((ROOT / "test_tipc/configs").glob("*/train_infer_python.txt"))
LITE = "lite_train_lite_infer"
THEIRS = """===========================train_params===========================
model_name:PatchCore
python:python3.7
gpu_list:0
Global.use_gpu:True|True
Global.auto_cast:fp32
Global.epoch_num:lite_train_lite_infer=1
Global.save_model_dir:./output/PatchCore/
Train.loader.batch_size_per_card:lite_train_lite_infer=2
Global.pretrained_model:null
train_model_name:latest
train_infer_img_dir:./test_tipc/data/MVTec
null:null
##
trainer:norm_train
norim_train:train.py --data_path=./test_tipc/data/MVTec --category capsule --method=coreset --arch=resnet18 --k=10 --save_path=./test_tipc/output/PatchCore/ --save_model_subfolder=False --save_pic=False
pact_train:null
fpgm_train:null
distill_train:null
null:null
null:null
##
===========================eval_params===========================
eval:null
null:null
##
===========================infer_params===========================
Global.save_inference_dir:./test_tipc/output/PatchCore/
Global.pretrained_model:
norm_export:export_model.py --method=coreset --arch=resnet18 --k=10 --model_path=./test_tipc/output/PatchCore/capsule.pdparams --save_dir=./test_tipc/output/PatchCore/
quant_export:null
fpgm_export:null
distill_export:null
export1:null
export2:null
inference_dir:null
infer_model:./test_tipc/output/PatchCore/model.pdmodel
infer_export:null
infer_quant:False
inference:infer.py --model_name=OrthoAD --stats=./test_tipc/output/PatchCore/stats
--use_gpu:True|False
--enable_mkldnn:False
--cpu_threads:1|2
--batch_size:1
--use_tensorrt:False
--precision:fp32
--model_file:./test_tipc/output/PatchCore/model.pdmodel
--input_file:./test_tipc/data/MVTec/capsule/test/crack/001.png
--enable_benchmark:True
null:null
--params_file:./test_tipc/output/PatchCore/model.pdiparams
"""  # noqa: E501


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout to run the chain in."""
    return chain_checkout(tmp_path_factory.mktemp("tipc") / "checkout")


Chain = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def chain(place: Path, warm: WarmPython) -> Chain:
    """Run one of the chain's scripts."""

    def run(script: str, config: Path, mode: str = LITE, **env: str) -> subprocess.CompletedProcess:
        command = ["bash", f"test_tipc/{script}", str(config), mode]
        env = {**os.environ, "PYTHON": str(warm.program), **env}
        return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def prepared(chain: Chain) -> None:
    """The pictures that all four configs name."""
    assert chain("prepare.sh", CONFIGS[2]).returncode == 0


def keep(folder: Path, *kept: str) -> None:
    """Remove the other pictures of a category's part and their masks, which evaluation and ONNX would run on."""
    for path in folder.rglob("*.png"):
        if f"{path.parent.name}/{path.stem.removesuffix('_mask')}" not in kept:
            path.unlink()


def test_there_is_a_config_and_a_stored_result_for_every_method() -> None:
    names = [path.parent.name for path in CONFIGS]
    assert names == ["OrthoAD", "PaDiM", "PatchCore", "SPADE"]
    for arch in ("compact", "resnet18"):
        assert all((ROOT / f"test_tipc/results/{name}_{arch}_{LITE}.txt").is_file() for name in names)
    assert all(len(path.read_text().splitlines()) == 51 for path in CONFIGS)


@pytest.mark.parametrize("config", CONFIGS, ids=[path.parent.name for path in CONFIGS])
def test_the_lite_chain_runs_and_gives_the_stored_results(
    place: Path, chain: Chain, warm: WarmPython, config: Path
) -> None:
    prepared = chain("prepare.sh", config)
    assert prepared.returncode == 0, prepared.stderr
    for part in ("test", "ground_truth"):
        keep(place / "test_tipc/data/MVTec/bottle" / part, "good/000", "good/001", "broken_large/001")
    result = chain("test_train_inference_python.sh", config, **NO_WEIGHTS)
    assert result.returncode == 0, result.stdout + result.stderr
    name = config.parent.name
    interpreter, backbone, *lines = [line for line in result.stdout.splitlines() if not line.startswith("Skipped")]
    assert interpreter == f"Interpreter - {name} - {warm.program}" and backbone == f"Backbone - {name} - compact"
    # train, eval, export, two inferences, ONNX, comparison; a CPU with bfloat16 adds to these
    assert len(lines) >= 7 and all(line.startswith(f"Run successfully with command - {name} - ") for line in lines)
    assert "--format=onnx" in "".join(lines) and "compare_results.py" in lines[-1]
    assert ("--precision=bf16" in result.stdout) == ("bf16" in (config.read_text()))
    output = place / "test_tipc/output" / name / LITE
    log = output / "python_infer_cpu_usemkldnn_True_threads_1_precision_fp32_batchsize_1.log"
    assert "inference_time(ms)" in log.read_text() and log.read_text().count("broken_large/001.png,") == 1
    assert (output / "results_python.log").read_text() == result.stdout


def test_another_result_than_the_stored_one_fails(place: Path, warm: WarmPython) -> None:
    stored = place / f"test_tipc/results/PatchCore_compact_{LITE}.txt"
    log = f"test_tipc/output/PatchCore/{LITE}/python_infer_*.log"
    words = [str(warm.program), "test_tipc/compare_results.py", "--gt_file", str(stored), "--log_file", log]
    assert subprocess.run(words, cwd=place, capture_output=True).returncode == 0
    *head, line = stored.read_text().splitlines()
    path, score = line.split(",")
    stored.write_text("\n".join([*head, f"{path},{float(score) * 1.01}"]))
    result = subprocess.run(words, cwd=place, capture_output=True, text=True)
    assert result.returncode == 1 and "broken_large/001.png" in result.stdout


@pytest.mark.parametrize(
    ("stored", "scored", "code", "said"),
    [
        ("a/b.png,1\n", "a/b.png,1.0005\n", 0, "1 scores, 1 as stored"),
        ("a/b.png,1\na/c.png,2\n", "a/b.png,1\n", 1, "a/c.png: not scored, stored 2"),
        ("a/b.png,inf\n", "a/b.png,1\n", 1, "a/b.png: 1.0, stored inf"),
        ("a/b.png,x\n", "a/b.png,1\n", 2, "1.txt: no score of a/b.png"),
        ("a/b.png\n", "a/b.png,1\n", 2, "1.txt: no score of a/b.png"),
        ("a/b.png,1\n", "a/b.png,\n", 2, "fp32.log: no score of a/b.png"),
        ("a/b.png,1\n", "", 2, "fp32.log is empty"),
        ("a/b.png,3\n", "a/b.png,1\n", 2, "name one model's results"),
        (None, "a/b.png,1\n", 2, "Is a directory"),
    ],
)
def test_what_is_compared_is_whole(tmp_path: Path, stored: str | None, scored: str, code: int, said: str) -> None:
    (tmp_path / "1.txt").mkdir() if stored is None else (tmp_path / "1.txt").write_text(f"path,score\n{stored}")
    if "one model" in said:
        (tmp_path / "2.txt").write_text("path,score\na/b.png,1\n")
    (tmp_path / "precision_fp32.log").write_text(f"path,score\n{scored}")
    words = ["--gt_file", tmp_path / "?.txt", "--log_file", tmp_path / "*.log"]
    result = run("test_tipc/compare_results.py", *words)
    assert result.returncode == code and said in result.stdout + result.stderr, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == (code == 2)


@pytest.mark.parametrize(("line", "step"), [(15, "train.py"), (29, "export_model.py"), (39, "infer.py")])
def test_a_broken_step_fails_the_chain_and_is_named(
    prepared: None, chain: Chain, tmp_path: Path, line: int, step: str
) -> None:
    lines = CONFIGS[2].read_text().splitlines()
    lines[23] = "eval:null"
    lines[line] += " --no_such_option=1"
    config = tmp_path / "broken.txt"
    config.write_text("\n".join(lines))
    one_setting(config, config)
    result = chain("test_train_inference_python.sh", config, **NO_WEIGHTS)
    assert result.returncode == 1
    assert f"{step} " in next(line for line in result.stdout.splitlines() if line.startswith("Run failed"))
    assert "--no_such_option" in result.stderr


def one_setting(config: Path, copy: Path) -> Path:
    """The config with one setting of inference."""
    lines = config.read_text().splitlines()
    lines[41:46] = ["--enable_mkldnn:True", "--cpu_threads:1", *lines[43:45], "--precision:fp32"]
    copy.write_text("\n".join(lines))
    return copy


@needs_real
@pytest.mark.real
@pytest.mark.parametrize("config", CONFIGS, ids=[path.parent.name for path in CONFIGS])
def test_resnet18_is_taken_where_its_weights_are_and_gives_the_stored_results(
    prepared: None, chain: Chain, tmp_path: Path, config: Path
) -> None:
    """Without evaluation and ONNX, which the chain of `compact` has."""
    copy = one_setting(config, tmp_path / "config.txt")
    lines = copy.read_text().splitlines()
    assert lines[23].startswith("eval:eval.py ")
    copy.write_text("\n".join([*lines[:23], "eval:null", *lines[24:]]))
    (tmp_path / "paddle2onnx.py").write_text("raise ImportError")
    env = {"PADDLEPATCH_WEIGHTS": str(WEIGHTS.parent), "PYTHONPATH": str(tmp_path)}
    result = chain("test_train_inference_python.sh", copy, **env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Backbone - {config.parent.name} - resnet18" in result.stdout
    assert f"Skipped - {config.parent.name} - paddle2onnx: not installed" in result.stdout
    assert "eval.py" not in result.stdout and "train.py" in result.stdout
    assert "compare_results.py" in result.stdout.splitlines()[-1], result.stdout


def test_the_predecessors_configs_run_as_written(place: Path, chain: Chain, tmp_path: Path) -> None:
    """The misspelt key, --model_name, .pdparams, model.pdmodel and --enable_benchmark in the log's slot among them."""
    config = tmp_path / "theirs.txt"
    config.write_text(THEIRS)
    weights = tmp_path / "weights"
    weights.mkdir()
    paddle.save(paddle.vision.models.resnet18().state_dict(), str(weights / "resnet18.pdparams"))
    assert chain("prepare.sh", config).returncode == 0
    keep(place / "test_tipc/data/MVTec/capsule", "good/000", "good/001", "crack/001")
    result = chain("test_train_inference_python.sh", config, PADDLEPATCH_WEIGHTS=str(weights))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("Run successfully") == 5 and "Not compared" in result.stdout
    output = place / "test_tipc/output/PatchCore" / LITE
    log = output / "python_infer_cpu_usemkldnn_False_threads_2_precision_fp32_batchsize_1.log"
    assert "preprocess_time(ms)" in log.read_text()


def test_bad_configs_and_modes_are_one_line(place: Path, chain: Chain, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("model_name:x\n")
    for config, mode, said in (
        (tmp_path / "none.txt", LITE, "no config at"),
        (short, LITE, "the format has 51"),
        (CONFIGS[0], "whole_train_whole_infer", "MVTEC"),
    ):
        result = chain("prepare.sh", config, mode, MVTEC=str(tmp_path / "nowhere"))
        assert result.returncode == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
