"""Bad input: one clear line, exit 2, nothing damaged."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import FAST, refused, run

pytestmark = pytest.mark.once


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data_path", "no/such/folder"], ["--data_path", "no/such/folder"]),
        (["--category", "bottel"], ["--category", "bottel", "washer"]),
        (["--category", "textures"], ["textures", "washer"]),
        (["--method", "patchcor"], ["--method", "patchcor", "patchcore"]),
        (["--arch", "resnet19"], ["--arch", "resnet19", "resnet18"]),
        (["--layers", "layer7"], ["--layers", "layer7"]),
        (["--k", "0"], ["--k", "0"]),
        (["--k", "many"], ["--k", "many"]),
        (["--crop_size", "300"], ["--crop_size", "300", "--resize"]),
        (["--weights", "no/such.pdparams"], ["no/such.pdparams"]),
        (["--num_workers", "-1"], ["--num_workers"]),
        (["--sede", "3"], ["--sede"]),
        (["--see", "3"], ["--see"]),
        (["extra"], ["extra"]),
    ],
)
def test_train_refuses(data: Path, tmp_path: Path, words: list[str], said: list[str]) -> None:
    refused(run("train.py", "--data_path", data, *FAST, "--save_path", tmp_path / "out", *words), *said)
    assert not (tmp_path / "out").exists()


def test_folder_problems_are_told_apart(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(run("train.py", "--data_path", tmp_path / "empty", *FAST), "no category")
    (tmp_path / "d/thing/train/good").mkdir(parents=True)
    refused(run("train.py", "--data_path", tmp_path / "d", *FAST), "no pictures", "thing")
    shutil.copy(data / "washer/train/good/000.png", tmp_path / "d/thing/train/good")
    refused(run("train.py", "--data_path", tmp_path / "d", *FAST, "--save_path", tmp_path / "o"), "at least two")
    (tmp_path / "d/thing/train/good/bad.png").write_bytes(b"x")
    refused(run("train.py", "--data_path", tmp_path / "d", *FAST, "--save_path", tmp_path / "o"), "bad.png")
    (tmp_path / "d/thing/train/good/bad.png").unlink()
    shutil.copy(data / "washer/train/good/001.png", tmp_path / "d/thing/train/good")
    words = ["--data_path", tmp_path / "d", *FAST, "--save_path", tmp_path / "o", "--eval"]
    refused(run("train.py", *words), "test", "--eval")
    assert not list((tmp_path / "o").rglob("*.safetensors")), "said before the fit"


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/paddlepatch-was-here",)


def test_weights_that_run_code_are_refused(data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "evil.pdparams"
    bad.write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    refused(run("train.py", "--data_path", data, *FAST, "--weights", bad), "evil.pdparams", "system")
    assert not Path("/tmp/paddlepatch-was-here").exists()


def test_weights_of_another_network_or_cut_short(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pdparams"
    paddle.save(paddle.vision.models.resnet50().state_dict(), str(path))
    words = ["train.py", "--data_path", data, *FAST, "--arch", "resnet18", "--weights", path]
    refused(run(*words), "do not fit", "resnet50.pdparams")
    path.write_bytes(path.read_bytes()[:100_000])
    refused(run(*words), "damaged")
    paddle.save({"other": paddle.zeros([2])}, str(path))
    refused(run(*words), "lack", "resnet50.pdparams")


def test_pretrained_weights_are_looked_up_in_order(data: Path, tmp_path: Path) -> None:
    words = [
        "train.py",
        "--data_path",
        data,
        "--category",
        "washer",
        "--arch",
        "resnet18",
        *FAST[4:],
        "--save_path",
        tmp_path / "out",
    ]
    env = {"HOME": str(tmp_path), "PADDLEPATCH_WEIGHTS": "", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    env["https_proxy"] = env["http_proxy"]
    result = run(*words, env=env)
    assert result.returncode == 2
    told = result.stderr.strip().splitlines()[-1]
    for place in ("--weights", "$PADDLEPATCH_WEIGHTS", ".cache/paddle/hapi/weights", "download"):
        assert place in told
    cache = tmp_path / ".cache/paddle/hapi/weights"
    cache.mkdir(parents=True, exist_ok=True)
    state = paddle.vision.models.resnet18().state_dict()
    paddle.save(
        {name: value for name, value in state.items() if "layer4" not in name}, str(cache / "resnet18.pdparams")
    )
    assert f"weights: {cache}" in run(*words, env=env).stdout
    (tmp_path / "mine").mkdir()
    shutil.copy(cache / "resnet18.pdparams", tmp_path / "mine")
    assert f"weights: {tmp_path}/mine" in run(*words, env={**env, "PADDLEPATCH_WEIGHTS": str(tmp_path / "mine")}).stdout
    given = shutil.copy(cache / "resnet18.pdparams", tmp_path / "given.pdparams")
    assert f"weights: {given}" in run(*words, "--weights", given, env=env).stdout
    refused(run(*words, "--weights", given, "--layers", "layer4", env=env), "lack layer4", "given.pdparams")


def test_models_that_are_missing_damaged_or_other(trained: SimpleNamespace, tmp_path: Path) -> None:
    picture = trained.data / "washer/test/good/000.png"
    base = [picture, "--save_path", tmp_path]
    refused(run("predict.py", *base), "--category")
    refused(run("predict.py", *base, "--category", "all"), "one category")
    refused(run("predict.py", *base, "--category", "washer"), "no model at", "train washer first")
    refused(run("predict.py", *base, "--model_path", tmp_path / "x.safetensors"), "x.safetensors")
    refused(run("predict.py", *base, "--model_path", trained.export / "stats"), "holds a PaddlePatch stats")
    folder = Path(shutil.copytree(trained.run, tmp_path / "run"))
    model = folder / "washer.safetensors"
    refused(run("predict.py", *base, "--model_path", model, "--crop_size", "64"), "--crop_size 64", "96")
    whole = model.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"x" * 100, whole[:-9] + b"12345678" + whole[-1:]):
        model.write_bytes(content)
        refused(run("predict.py", *base, "--model_path", model), "washer.safetensors", "damaged")
    model.write_bytes(whole.replace(b'\\"method\\": \\"patchcore\\"', b'\\"method\\": \\"patchcast\\"'))
    refused(run("predict.py", *base, "--model_path", model), "patchcast")
    model.write_bytes(whole)
    next(folder.glob("compact-*")).unlink()
    refused(run("predict.py", *base, "--model_path", model), "compact-")


def test_a_model_of_another_method_is_refused(trained: SimpleNamespace) -> None:
    from deploy import UserError
    from models import PatchCore

    class Other(PatchCore):
        NAME = "other"

    with pytest.raises(UserError, match="is a patchcore model, not other"):
        Other.load(trained.model)


def test_predict_names_what_it_cannot_find(trained: SimpleNamespace, tmp_path: Path) -> None:
    model = ["--model_path", trained.model, "--save_path", tmp_path]
    refused(run("predict.py", "no/such.png", *model), "no/such.png")
    refused(run("predict.py", tmp_path, *model), "no pictures")
    refused(run("predict.py", trained.data / "washer/test/good", *model, "--threshold", "-99"), "--threshold")


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("predict.py", ["x.png", "--min_area", "9"], "--min_area has an effect only with --save_regions"),
        ("train.py", ["--min_area", "9"], "--min_area has an effect only with --save_regions or --report"),
        ("train.py", ["--forget", "x.png"], "--forget has an effect only with --update"),
        ("train.py", ["--eval_PRO"], "--eval_PRO has an effect only with --eval: give that too"),
        ("train.py", ["--save_mask"], "--save_mask has an effect only with --eval"),
        ("train.py", ["--save_map=True"], "--save_map has an effect only with --eval"),
        ("train.py", ["--save_regions", "--eval=False"], "--save_regions has an effect only with --eval"),
        ("train.py", ["--test_batch_size", "4"], "--test_batch_size has an effect only with --eval"),
        ("eval.py", ["--goal", "f1"], "--goal has an effect only with --calibrate"),
        ("infer.py", ["--stats", "x", "-i", "x", "--max_models", "2"], "--max_models has an effect only with --serve"),
    ],
)
def test_options_without_what_they_are_for_are_refused(script: str, words: list[str], said: str) -> None:
    refused(run(script, *words), said)


LIMITED = """
import resource, runpy, sys
_, limit, *sys.argv = sys.argv
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("stage", ["train.py", "export_model.py", "infer.py", "predict.py"])
def test_a_full_disk_damages_nothing(trained: SimpleNamespace, tmp_path: Path, stage: str, run_warm: Callable) -> None:
    """A limit on file size stands in for a full disk: the write fails half-way."""
    output = Path(shutil.copytree(trained.output, tmp_path / "output"))
    run_folder = output / "patchcore_compact_2"
    words = {
        "train.py": [w if w != trained.output else output for w in trained.words] + ["--seed", "9"],
        "export_model.py": ["--category", "washer", "--arch", "compact", "--k", "2", "--save_path", output],
        "infer.py": ["--stats", run_folder / "washer/export/stats", "--save_path", output / "infer",
                     "--input_file", trained.data / "washer/test/good"],
        "predict.py": [trained.data / "washer/test/good", "--category", "washer", "--arch", "compact", "--k", "2",
                       "--save_path", output],
    }[stage]  # fmt: skip
    before = snapshot(output)
    limit = 1000 if stage == "infer.py" else 100_000
    result = run_warm("-c", LIMITED, limit, stage, *words)
    refused(result, "cannot write")
    assert snapshot(output) == before


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    from deploy import UserError
    from deploy.storage.files import write_whole
    from deploy.storage.tensors import write_tensors

    path = write_tensors(tmp_path / "model.safetensors", {"a": np.zeros(10)}, {"kind": "model"})
    old = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match="model.safetensors"):
            write_tensors(path, {"a": np.zeros(1000)}, {"kind": "model"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot create folder"):
        write_whole(path / "below" / "file", "x")


def test_a_script_that_is_told_to_end_does_so_without_a_word(run_warm: Callable) -> None:
    """Paddle's own handler of SIGTERM prints a C++ trace."""
    code = "import os, signal, time, paddle; from deploy.command_line.script import run_script\n"
    code += "run_script(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)))"
    result = run_warm("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (128 + 15, "", "")
