"""Logs of experiments, each written by its own package and read back."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, done, refused, run, table

import evaluation.publish
from evaluation.logs import PACKAGES, write_log
from evaluation.logs.run import run_of
from options.arguments import LOGS

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def logged(trained: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """eval.py --log run once, and what it hands to `write_log`: `.place` is its --save_path, `.words` the options."""
    place, caught = tmp_path_factory.mktemp("log"), []
    shutil.copytree(trained.run, place / trained.run.name)
    words = [*trained.named[:-1], place, "--data_path", trained.data]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation.publish, "find_spec", lambda module: True)
        patch.setattr(evaluation.publish, "write_log", lambda *given: caught.append(given))
        done(run("eval.py", *words, "--log", "visualdl"))
    [(name, path, chapters, save_path)] = caught
    assert name == "visualdl"
    folder = place / trained.run.name
    return SimpleNamespace(
        place=place,
        words=words,
        given=(path, chapters, save_path),
        run=run_of(path, chapters, save_path),
        row=next(row for row in table(path) if row["category"] == "washer"),
        drawn={path: path.read_bytes() for path in folder.rglob("*.png")},
    )


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """No variables of the packages, and none of those that are set for them stays."""
    before = dict(os.environ)
    for variable in before:
        if variable.startswith(("WANDB_", "MLFLOW_")):
            del os.environ[variable]
    yield
    os.environ.clear()
    os.environ.update(before)


def written(name: str, logged: SimpleNamespace) -> Path:
    """The folder of the log that was written by this package, which must be installed."""
    pytest.importorskip(name, reason=f"no {name}: its log is not tested (pip install {PACKAGES[name]})")
    write_log(name, *logged.given)
    return logged.place / "logs" / name


def test_a_run_is_table_header_times_and_pictures(logged: SimpleNamespace) -> None:
    one = logged.run
    assert one.name == "patchcore_compact_2/washer_seed521"
    told = {name: value for name, value in one.figures.items() if name.startswith("washer/") and "seconds" not in name}
    assert {f"washer/{name}" for name in logged.row if logged.row[name] and f"washer/{name}" in told} == set(told)
    for name, value in told.items():
        assert f"{value:.6f}" == logged.row[name.partition("/")[2]] and one.figures[f"mean/{name[7:]}"] == value
    assert "washer/Image_AUROC" in told and one.figures["washer/seconds/fit/coreset"] > 0
    assert one.figures["washer/seconds/evaluation/total"] > 0
    assert one.settings["data_sha256"] == logged.row["data_sha256"] and one.settings["command"] == logged.row["command"]
    assert one.settings["layers"] == "layer2 layer3" and one.settings["k"] == 2 and one.settings["options.sigma"] == 4
    assert one.settings["versions.paddle"] and one.settings["preprocess.crop_size"] == 96
    assert "washer/contact_sheet" in one.pictures and len(one.pictures) > 2
    assert set(one.pictures.values()) <= set(logged.drawn)  # nothing is drawn for the log


def test_visualdl_reads_it(logged: SimpleNamespace) -> None:
    folder = written("visualdl", logged)
    from visualdl import LogReader

    [file] = folder.rglob("vdlrecords*")
    assert file.relative_to(folder).as_posix().startswith(logged.run.name)
    reader = LogReader(file_path=str(file))
    tags = reader.get_tags()
    assert set(logged.run.figures) <= set(tags["scalar"]) and set(tags["image"]) == set(logged.run.pictures)
    [found] = reader.get_data("scalar", "washer/Image_AUROC")
    assert found.value == pytest.approx(logged.run.figures["washer/Image_AUROC"])


def test_wandb_writes_it_offline(logged: SimpleNamespace) -> None:
    folder = written("wandb", logged)
    [file] = folder.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    for name in (*logged.run.figures, *logged.run.pictures, "data_sha256", "washer_seed521"):
        assert name.encode() in content, name
    assert f"{logged.run.figures['washer/seconds/evaluation/total']!r}".encode() in content
    sent = {path.read_bytes() for path in file.parent.rglob("*.png")}
    assert sent == {logged.drawn[path] for path in logged.run.pictures.values()}


def test_mlflow_reads_it(logged: SimpleNamespace) -> None:
    folder = written("mlflow", logged)
    import mlflow

    client = mlflow.MlflowClient(folder.as_uri())
    [found] = client.search_runs([client.get_experiment_by_name("paddlepatch").experiment_id])
    assert found.info.run_name == logged.run.name and found.info.status == "FINISHED"
    assert found.data.metrics == pytest.approx(logged.run.figures)
    assert found.data.params == {name: str(value) for name, value in logged.run.settings.items()}
    sent = {path.read_bytes() for path in folder.rglob("*.png")}
    assert sent == {logged.drawn[path] for path in logged.run.pictures.values()}


def test_what_a_log_needs(logged: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(PACKAGES) == LOGS
    refused(run("train.py", *logged.words, "--log", "wandb"), "--log has an effect only with --eval")
    refused(run("eval.py", *logged.words, "--log", "tensorboard"), "invalid choice")
    monkeypatch.setattr(evaluation.publish, "find_spec", lambda module: None)
    refused(run("eval.py", *logged.words, "--log", "mlflow"), "--log mlflow needs mlflow: pip install mlflow")


def test_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    for path in (ROOT / "evaluation").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & set(PACKAGES), path
