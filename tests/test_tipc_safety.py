"""What the test chain must not do: remove or replace what it did not make, or run something else than it was asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, chain_checkout
from warm_python import WarmPython

from datasets.sample import write_sample

pytestmark = pytest.mark.once
CONFIG = "test_tipc/configs/PatchCore/train_infer_python.txt"
LITE, WHOLE = "lite_train_lite_infer", "whole_train_whole_infer"
SCRIPTS = ("prepare.sh", "test_train_inference_python.sh")


@pytest.fixture(autouse=True)
def python(monkeypatch: pytest.MonkeyPatch, warm: WarmPython) -> None:
    monkeypatch.setenv("PYTHON", str(warm.program))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without its data, and two real categories in `mvtec`."""
    folder = chain_checkout(tmp_path_factory.mktemp("checkout"))
    write_sample(folder / "sample", seed=3, train=3, good=1, bad=1, categories=["washer"])
    (folder / "mvtec").mkdir()
    (folder / "sample/washer").rename(folder / "mvtec/bottle")
    return folder


@pytest.fixture()
def place(checkout: Path, tmp_path: Path) -> Path:
    """A copy of it for a test."""
    return Path(shutil.copytree(checkout, tmp_path, symlinks=True, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def drawn(checkout: Path, warm: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it with the pictures that the chain draws."""
    folder = Path(shutil.copytree(checkout, tmp_path_factory.mktemp("drawn"), symlinks=True, dirs_exist_ok=True))
    assert chain(folder, "prepare.sh", LITE, PYTHON=str(warm.program)).returncode == 0
    return folder


@pytest.fixture()
def drawn_place(drawn: Path, tmp_path: Path) -> Path:
    """A copy of that for a test."""
    return Path(shutil.copytree(drawn, tmp_path, symlinks=True, dirs_exist_ok=True))


def chain(place: Path, script: str, mode: str, config: str = CONFIG, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "MVTEC": str(place / "mvtec"), **env}
    command = ["bash", f"test_tipc/{script}", config, mode]
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, links followed."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1 and all(word in result.stderr for word in words), result.stderr


@pytest.mark.parametrize("mode", [LITE, WHOLE, "lite_train_whole_infer", "whole_infer", "benchmark_train"])
def test_pictures_of_a_user_stay_where_the_chain_wants_its_own(place: Path, mode: str) -> None:
    (place / "test_tipc/data").mkdir()
    (place / "mvtec").rename(place / "test_tipc/data/MVTec")
    before = contents(place / "test_tipc/data")
    for mvtec in ("./test_tipc/data/MVTec", "mvtec"):  # the config's own --data_path: one folder as source and target
        refused(chain(place, "prepare.sh", mode, MVTEC=mvtec), "MVTec/bottle", "was not made by the test chain")
    assert contents(place / "test_tipc/data") == before


def test_the_chains_own_folder_is_replaced_and_only_it(place: Path) -> None:
    ours = place / "test_tipc/data/MVTec/bottle"
    for mode, count in ((LITE, 8), (WHOLE, 3), ("lite_train_whole_infer", 3), (LITE, 8)):
        source = contents(place / "mvtec")
        result = chain(place, "prepare.sh", mode)
        assert result.returncode == 0 and f"{count} training pictures" in result.stdout, result.stderr
        assert len(list((ours / "train/good").iterdir())) == count
        assert contents(place / "mvtec") == source
        assert [path.name for path in ours.parent.iterdir()] == ["bottle"], "nothing is left beside it"


def test_what_a_user_put_into_the_chains_folder_stays(drawn_place: Path) -> None:
    ours = drawn_place / "test_tipc/data/MVTec/bottle"
    (ours / "train/good/mine.png").write_bytes(b"mine")
    before = contents(ours)
    refused(chain(drawn_place, "prepare.sh", LITE), "train/good/mine.png", "not the test chain's")
    (ours / "train/good/mine.png").unlink()
    first = next((ours / "train/good").iterdir())
    first.write_bytes(b"mine under the name of a drawing")
    refused(chain(drawn_place, "prepare.sh", WHOLE), first.name)
    assert len(contents(ours)) == len(before) - 1


def test_source_and_target_in_one_folder_are_refused(drawn_place: Path) -> None:
    before = contents(drawn_place / "test_tipc/data")
    (drawn_place / "link").symlink_to(drawn_place / "test_tipc/data/MVTec")
    for mvtec in ("./test_tipc/data/MVTec", str(drawn_place / "link"), "test_tipc/../test_tipc/data/MVTec/"):
        refused(chain(drawn_place, "prepare.sh", WHOLE, MVTEC=mvtec), "are one folder")
    assert contents(drawn_place / "test_tipc/data") == before


def test_an_empty_result_is_an_error_and_changes_nothing(drawn_place: Path) -> None:
    before = contents(drawn_place / "test_tipc/data")
    for path in (drawn_place / "mvtec/bottle/train/good").iterdir():
        path.unlink()
    refused(chain(drawn_place, "prepare.sh", WHOLE), "no training pictures")
    assert contents(drawn_place / "test_tipc/data") == before


def test_a_link_in_the_chains_place_is_not_followed(place: Path) -> None:
    (place / "test_tipc/data/MVTec").mkdir(parents=True)
    (place / "test_tipc/data/MVTec/bottle").symlink_to(place / "mvtec/bottle")
    before = contents(place / "mvtec")
    refused(chain(place, "prepare.sh", LITE), "was not made by the test chain")
    assert contents(place / "mvtec") == before and before


def test_a_benchmark_trains_each_time_or_gives_no_figure(place: Path, warm: WarmPython) -> None:
    """Also with an interpreter in a folder with a blank."""
    python = place / "my environment/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{warm.program}" "$@"\n')
    python.chmod(0o755)
    assert chain(place, "prepare.sh", "benchmark_train", PYTHON=str(python)).returncode == 0
    padim = CONFIG.replace("PatchCore", "PaDiM")
    (place / "elsewhere.txt").write_text((place / padim).read_text().replace("./test_tipc/output/", "./mine/"))
    for name, trained in ((padim, (True, True)), ("elsewhere.txt", (True, False))):
        for expected in trained:
            result = chain(place, "test_train_inference_python.sh", "benchmark_train", name, PYTHON=str(python))
            assert result.returncode == 0 and "Run successfully" in result.stdout, result.stdout + result.stderr
            log = (place / "test_tipc/output/PaDiM/benchmark_train/train.log").read_text()
            assert ("features: 3 pictures" in log) == expected == ("pictures: 3" in result.stdout), log
            assert ("Not trained - PaDiM - the model of an earlier run was kept" in result.stdout) != expected


@pytest.mark.parametrize("mode", ["lite_train_lite_inferr", "klquant_whole_infer", "lite_train", ""])
def test_unknown_modes_are_refused(place: Path, mode: str) -> None:
    for script in SCRIPTS:
        if mode:
            refused(chain(place, script, mode), f"unknown mode {mode}", LITE)
        else:
            refused(chain(place, script, " "), "unknown mode")
    assert not (place / "test_tipc/data").exists() and not (place / "test_tipc/output").exists()


def test_a_shim_that_does_not_run_counts_as_absent(place: Path, warm: WarmPython) -> None:
    config = (place / CONFIG).read_text().replace("python:python3\n", "python:python3.7\n")
    (place / "config.txt").write_text(config)
    programs = place / "bin"
    programs.mkdir()
    for name, text in (("python3.7", "echo 'pyenv: python3.7: command not found' >&2; exit 127"),
                       ("python3", f'exec "{warm.program}" "$@"')):  # fmt: skip
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    result = chain(place, "prepare.sh", LITE, "config.txt", PYTHON="", PATH=path)
    assert result.returncode == 0 and "interpreter: python3\n" in result.stdout, result.stdout + result.stderr
    (programs / "python3").write_text("#!/bin/sh\nexit 1\n")
    refused(chain(place, "prepare.sh", LITE, "config.txt", PYTHON="", PATH=path), "no interpreter", "python3.7")


def test_what_has_no_effect_is_said_and_int8_is_skipped(place: Path) -> None:
    lines = (place / CONFIG).read_text().splitlines()
    for number, value in ((9, "./resnet18.pdparams"), (35, "./inference"), (37, "./export"), (38, "True"),
                          (16, "deploy/slim/prune.py"), (17, "x.py"), (18, "x.py"), (30, "x.py")):  # fmt: skip
        lines[number] = f"{lines[number].split(':')[0]}:{value}"
    lines[14] += "|pact_train"
    lines[36] = "infer_model:test_tipc/README.md"  # a file that is there: nothing of it is run
    lines = ["--precision:int8" if line.startswith("--precision") else line for line in lines]
    (place / "config.txt").write_text("\n".join(lines))
    result = chain(place, "test_train_inference_python.sh", "whole_infer", "config.txt")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("Global.pretrained_model", "inference_dir", "infer_export", "infer_quant", "pact_train", "fpgm_train",
                 "distill_train", "quant_export", "trainer pact_train"):  # fmt: skip
        assert result.stdout.count(f"No effect - PatchCore - {name}:") == 1, name
    assert "Skipped - PatchCore - --precision=int8" in result.stdout and "Run " not in result.stdout


@pytest.mark.parametrize("arch", ["compact", "resnet18"])
def test_the_backbone_is_the_first_whose_weights_are_there(place: Path, tmp_path: Path, arch: str) -> None:
    (tmp_path / "weights").mkdir()
    if arch == "resnet18":
        (tmp_path / "weights/resnet18.pdparams").write_bytes(b"")
    env = {"PADDLEPATCH_WEIGHTS": str(tmp_path / "weights"), "HOME": str(tmp_path)}
    result = chain(place, "test_train_inference_python.sh", "whole_infer", **env)
    assert f"Backbone - PatchCore - {arch}\n" in result.stdout
    refused(result, "no exported model")


def test_make_clean_removes_the_environments_that_make_made_and_nothing_else(place: Path) -> None:
    shutil.copy(ROOT / "Makefile", place)
    kept = ["output/patchcore/bottle.safetensors", "demo/output/x.csv", ".venv/lib/theirs.py", "mine/x"]
    gone = [".venv-paddle26/.ready", ".venv-paddle26/lib/ours.py", "ours/.run-ready"]
    for name in (*kept, *gone):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("x")
    for words in ([], ["VENV=mine"], ["VENV=ours"]):
        subprocess.run(["make", "clean", *words], cwd=place, check=True, capture_output=True)
    assert all((place / name).is_file() for name in kept)
    assert not (place / ".venv-paddle26").exists() and not (place / "ours").exists()
