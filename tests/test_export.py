"""Exported programs equal dygraph, and files that do not belong together are refused."""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import done, refused, run
from safetensors.numpy import load_file

from deploy import Predictor, Preprocess, Runtime, UserError
from deploy.pictures.listing import list_pictures
from deploy.runtime import selfcheck
from deploy.runtime.program import save_program
from deploy.storage.tensors import read_tensors, write_tensors
from models import load_model
from models.export.export import compare, export
from models.graph.compiled import Embedding, image_spec


@pytest.fixture(scope="module")
def test_images(trained: SimpleNamespace) -> np.ndarray:
    model = load_model(trained.model)
    paths = list_pictures(trained.data / "washer" / "test")[:7]
    return model.preprocess.normalise(np.stack([model.preprocess.crop(model.preprocess.resized(p)) for p in paths]))


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_exported_equals_dygraph(trained: SimpleNamespace, test_images: np.ndarray, onednn: bool, batch: int) -> None:
    with paddle.no_grad():
        known = [t.numpy() for t in load_model(trained.model)(paddle.to_tensor(test_images[:batch]))]
    predictor = Predictor.load(trained.export / "stats", runtime=Runtime(onednn=onednn))
    for _ in range(2):  # the statistics stay set: the second run must see the same
        for found, expected in zip(predictor.program.run(test_images[:batch]), known):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_tracing_asks_for_no_stacks_and_leaves_python_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traceback, "extract_stack", lambda *_, **__: pytest.fail("an operation's stack was asked for"))
    before = traceback.extract_stack
    save_program(paddle.nn.Conv2D(3, 4, 3), [paddle.static.InputSpec([None, 3, 8, 8], "float32", "image")], tmp_path)
    assert traceback.extract_stack is before


def test_tracing_needs_no_home_and_leaves_nothing_there(
    trained: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(trained.model)
    for home in ("/dev/null", str(tmp_path / "home")):  # no folder can be made in the first
        monkeypatch.setenv("HOME", home)
        save_program(Embedding(model), [image_spec(model.preprocess.size)], tmp_path / "program")
    assert [path.name for path in tmp_path.iterdir()] == ["program"]
    assert {path.name.split(".")[0] for path in (tmp_path / "program").iterdir()} == {"model"}


def test_program_carries_no_statistics_and_no_unread_layers(trained: SimpleNamespace) -> None:
    names = [
        "model.json" if (trained.export / "model.json").is_file() else "model.pdmodel",
        "model.pdiparams",
        "stats",
        "about.json",
    ]
    if names[0] == "model.json":
        assert sorted(p.name for p in trained.export.iterdir()) == sorted(names)
    backbone = next(trained.run.glob("compact-*.safetensors"))
    bank = load_file(trained.export / "stats")["memory_bank"].nbytes
    assert (trained.export / "model.pdiparams").stat().st_size < backbone.stat().st_size + min(bank, 400_000)


def test_export_again_replaces_and_is_repeatable(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--model_path", trained.model, "--save_dir", tmp_path]
    done(run("export_model.py", *words))
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("model.json", "model.pdmodel", "model.onnx"):  # as another Paddle or --format onnx leaves them
        (tmp_path / name).write_bytes(b"of the earlier export")
    (tmp_path / "notes.txt").write_text("the user's")
    done(run("export_model.py", *words))
    assert Predictor.load(tmp_path / "stats").selfcheck < 1e-4
    (tmp_path / "notes.txt").unlink()
    again = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert sorted(again) == sorted(first)
    assert again["model.pdiparams"] == first["model.pdiparams"]


def test_all_models_of_a_run_are_exported_and_one_that_fails_does_not_stop_others(
    trained: SimpleNamespace, tmp_path: Path
) -> None:
    run_folder = tmp_path / trained.run.name
    shutil.copytree(trained.run, run_folder, ignore=shutil.ignore_patterns("washer"))
    shutil.copy(trained.model, run_folder / "anther.safetensors")
    words = ["--arch", "compact", "--k", "2", "--save_path", tmp_path, "--data_path", trained.data]
    said = done(run("export_model.py", "--category", "all", *words)).stdout
    assert f"serve them: python infer.py --serve 8080 --stats {run_folder}" in said
    for name, compared in (("anther", 0), ("washer", 8)):
        assert Predictor.load(run_folder / name / "export" / "stats").header["compared"]["pictures"] == compared

    (run_folder / "anther.safetensors").write_bytes(b"no model")
    found = run("export_model.py", "--category", "anther,washer", "--save_dir", tmp_path / "to", *words)
    assert found.returncode == 2 and "error: anther: " in found.stderr and "Traceback" not in found.stderr
    assert "not done, see the errors: 1 of 2 (anther)" in found.stdout and "serve them" not in found.stdout
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["washer"]

    found = run("export_model.py", "--category", "fabric,washer", "--save_dir", tmp_path / "more", *words)
    assert found.returncode == 2 and "error: fabric: no model at" in found.stderr and "1 of 2 (fabric)" in found.stdout
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["washer"]


@pytest.mark.once
def test_which_models_are_exported_is_told_where_it_is_not_clear(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--arch", "compact", "--k", "2", "--save_path", tmp_path]
    refused(run("export_model.py", "--category", "all", *words), "no model in", "--method, --arch, --k")
    shutil.copytree(trained.run, tmp_path / trained.run.name / "seed521")
    refused(run("export_model.py", "--category", "all", *words), "models of seeds 521 are there")
    refused(run("export_model.py", "--category", "washer,fabric", *words, "--seed", "521"), "no model at", "fabric")
    several = ["--category", "washer,fabric", "--model_path", trained.model]
    refused(run("export_model.py", *several), "--model_path is one model")


def infer(trained: SimpleNamespace, export: Path, out: Path, *words: object):  # noqa: ANN201
    picture = trained.data / "washer/test/chip/000.png"
    return run("infer.py", "--stats", export / "stats", "--input_file", picture, "--save_path", out, *words)


@pytest.fixture
def copy(trained: SimpleNamespace, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.export, tmp_path / "export"))


def graph(export: Path) -> Path:
    return next(p for p in export.iterdir() if p.stem == "model" and p.suffix in (".json", ".pdmodel"))


@pytest.mark.once
@pytest.mark.parametrize("which", ["graph", "params", "stats"])
def test_truncated_files_are_refused(trained: SimpleNamespace, copy: Path, tmp_path: Path, which: str) -> None:
    path = {"graph": graph(copy), "params": copy / "model.pdiparams", "stats": copy / "stats"}[which]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(infer(trained, copy, tmp_path / "out"), path.name)
    assert not (tmp_path / "out").exists()


@pytest.mark.once
def test_changed_statistics_are_refused(trained: SimpleNamespace, copy: Path, tmp_path: Path) -> None:
    content = (copy / "stats").read_bytes()
    threshold = content.index(b"image_threshold") + len(b'image_threshold\\": ')
    for place in (len(content) - 1000, threshold):  # in the arrays, and a digit in the header
        changed = bytearray(content)
        changed[place] ^= 0x01
        (copy / "stats").write_bytes(changed)
        refused(infer(trained, copy, tmp_path / "out"), "stats", "damaged or was changed")


def test_a_program_that_computes_something_else_is_refused(
    trained: SimpleNamespace, copy: Path, tmp_path: Path
) -> None:
    """Well-formed statistics with other numbers: only the self-check can tell."""
    tensors, header = read_tensors(copy / "stats", "stats")
    tensors["memory_bank"] = tensors["memory_bank"] * np.float32(1.01)
    write_tensors(copy / "stats", tensors, header)
    refused(infer(trained, copy, tmp_path / "out"), "self-check", "differs")


@pytest.mark.once
@pytest.mark.parametrize(
    ("score", "maps", "pixel", "found"),
    [
        (1.0, 1.0, 0.0, 0.0),
        (0.9, 1.0, 0.0, 0.1),
        (1.1, 1.0, 0.0, 0.1),
        (1.0, 0.9, 0.0, 0.1),
        (1.0, 1.1, 0.0, 0.1),
        (1.0, 1.0, 20.0, 20 / 64),
        (1.0, 1.0, -20.0, 20 / 64),
        (np.nan, 1.0, 0.0, np.inf),
        (1.0, np.nan, 0.0, np.inf),
        (1.0, 1.0, np.nan, np.inf),
    ],
)
def test_the_self_check_sees_differences_either_way(score: float, maps: float, pixel: float, found: float) -> None:
    known = np.full((1, 32, 32), 4, np.float32)
    stored = selfcheck.expected(known, np.array([4.0]))
    given = known * np.float32(maps)
    given[0, 8, 8] += 4 * pixel
    assert selfcheck.difference(stored, given, np.array([4 * score])) == pytest.approx(found, abs=1e-6)
    assert selfcheck.difference(stored, given[:, :28], np.array([4 * score])) == np.inf


@pytest.mark.once
def test_one_pixel_counts_for_little_and_not_for_nothing() -> None:
    known = np.full((1, 224, 224), 4, np.float32)
    stored, given = selfcheck.expected(known, np.array([4.0])), known.copy()
    given[0, 8, 8] += 2
    assert selfcheck.difference(stored, given, np.array([4.0])) == pytest.approx(selfcheck.LOCAL / 2, rel=1e-6)


@pytest.mark.once
def test_the_largest_difference_of_all_pictures_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the last one's nor the probe's alone."""

    class Model:
        preprocess = Preprocess(32, 32)

        def __call__(self, image: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
            return image[:, 0], image[:, 0, 0, 0]

    runner = SimpleNamespace(
        selfcheck=1e-6, program=SimpleNamespace(run=lambda image: (image, image)), to_input=lambda crops: crops
    )
    differences = iter([1e-5, 1e-4, 1e-7])
    monkeypatch.setattr(selfcheck, "verify", lambda *_: next(differences))
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 3
    assert compare(Model(), {"some way": runner}, pictures) == {"pictures": 3, "some way": 1e-4}
    runner.selfcheck, differences = 1e-3, iter([1e-5, 1e-4, 1e-7])
    assert compare(Model(), {"some way": runner}, pictures)["some way"] == 1e-3


@pytest.mark.once
def test_unknown_layouts_and_inputs_are_refused(trained: SimpleNamespace, tmp_path: Path) -> None:
    model = load_model(trained.model)
    for wrong in ({"layout": "whole"}, {"input_type": "int8"}):
        with pytest.raises(UserError, match=next(iter(wrong.values()))):
            export(model, tmp_path / "export", **wrong)
    assert not list(tmp_path.iterdir())


def test_missing_files_and_wrong_kinds_are_named(trained: SimpleNamespace, copy: Path, tmp_path: Path) -> None:
    refused(infer(trained, tmp_path / "nowhere", tmp_path / "out"), "nowhere")
    shutil.copy(trained.model, copy / "stats")
    refused(infer(trained, copy, tmp_path / "out"), "stats", "holds a PaddlePatch model")
    shutil.copy(trained.export / "stats", copy / "stats")
    graph(copy).unlink()
    refused(infer(trained, copy, tmp_path / "out"), "no program")


def test_the_other_paddle_versions_suffix_is_found(trained: SimpleNamespace, tmp_path: Path) -> None:
    """TIPC configs name model.pdmodel; Paddle 3 writes model.json."""
    files = ["--model_file", trained.export / "model.pdmodel", "--params_file", trained.export / "model.pdiparams"]
    done(infer(trained, trained.export, tmp_path / "out", *files, "--model_name", "PatchCore"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--use_gpu", "True"], "--use_gpu"),
        (["--use_tensorrt", "True"], "--use_tensorrt"),
        (["--precision", "fp16"], "fp16"),
        (["--precision", "bf16", "--enable_mkldnn", "False"], "bf16"),
        (["--precision", "fp8"], "--precision"),
        (["--batch_size", "0"], "--batch_size"),
        (["--enable_mkldnn", "perhaps"], "perhaps"),
        (["--colour"], "--colour"),
    ],
)
def test_what_this_build_cannot_do_is_said(
    trained: SimpleNamespace, tmp_path: Path, words: list[str], said: str
) -> None:
    if said == "--use_gpu" and paddle.is_compiled_with_cuda():
        pytest.skip("this build has CUDA")
    refused(infer(trained, trained.export, tmp_path / "out", *words), said)
