"""Split and fused programs, float32 and uint8 inputs, Paddle's format and ONNX: one model, one result."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import done, refused, run, run_process

from deploy import Predictor, Runtime
from deploy.pictures.listing import list_pictures
from deploy.storage.tensors import read_tensors, write_tensors
from models import load_model
from models.export.export import description
from models.export.onnx import OnnxProgram

WAYS = [(layout, entry) for layout in ("split", "fused") for entry in ("float32", "uint8")]
METHODS = {"patchcore": 2, "padim": 12, "orthoad": 12, "spade": 2}
PADDLE3 = int(paddle.__version__.split(".")[0]) >= 3


def crops(model_file: Path, folder: Path) -> np.ndarray:
    """uint8 [pictures, crop, crop, 3]."""
    preprocess = load_model(model_file).preprocess
    return np.stack([preprocess.crop(preprocess.resized(path)) for path in list_pictures(folder)])


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of washers by each method."""
    output, found = tmp_path_factory.mktemp("methods"), {}
    for method, k in METHODS.items():
        words = ["--data_path", data, "--category", "washer", "--method", method, "--arch", "compact", "--k", k]
        words += {"spade": ["--descriptor_layer", "layer2"], "patchcore": ["--search", "coarse"]}.get(method, [])
        layers = ["--layers", "layer1", "layer2", "--resize", "112", "--crop_size", "96"]
        done(run("train.py", *words, *layers, "--save_path", output))
        found[method] = output / f"{method}_compact_{k}/washer.safetensors"
    return found


@pytest.fixture(scope="module")
def exports(models: dict[str, Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple, Path]:
    """PatchCore's model of washers in every layout and input type, ONNX with Paddle 3."""
    place, found = tmp_path_factory.mktemp("layouts"), {}
    for layout, entry in WAYS:
        found[layout, entry] = folder = place / f"{layout} {entry}"
        words = ["--model_path", models["patchcore"], "--save_dir", folder, "--layout", layout, "--input", entry]
        words += ["--data_path", data, "--category", "washer", *(["--format", "onnx"] if PADDLE3 else [])]
        said = done(run("export_model.py", *words)).stdout
        assert "differs from dygraph by at most" in said and "on 8 pictures" in said
        assert ("ONNX Runtime" in said) == PADDLE3
        (told,) = [line for line in said.splitlines() if line.startswith("run it: ")]
        assert str(folder / "stats") in shlex.split(told), "with the blank in its folder's name"
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_layout_equals_dygraph(
    exports: dict[tuple, Path], models: dict[str, Path], data: Path, way: tuple[str, str]
) -> None:
    pictures, model = crops(models["patchcore"], data / "washer/test"), load_model(models["patchcore"])
    with paddle.no_grad():
        known = [t.numpy() for t in model(paddle.to_tensor(model.preprocess.normalise(pictures)))]
    folder = exports[way]
    answers = []
    for onednn in (True, False):
        predictor = Predictor.load(folder / "stats", runtime=Runtime(onednn=onednn))
        assert (predictor.program.inputs == ["image"]) == (way[0] == "fused")
        answers.append(predictor.program.run(predictor.to_input(pictures)))
    if PADDLE3:
        program, (tensors, _) = OnnxProgram(folder / "model.onnx"), read_tensors(folder / "stats", "stats")
        program.set({name: tensors[name] for name in program.inputs if name != "image"})
        answers.append(program.run(predictor.to_input(pictures)))
    for answer in answers:
        for found, expected in zip(answer, known):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.max())


@pytest.mark.once
def test_about_says_what_another_language_needs(exports: dict[tuple, Path]) -> None:
    about = json.loads((exports["fused", "uint8"] / "about.json").read_text())
    assert about["inputs"] == {"image": {"type": "uint8", "shape": ["batch", 96, 96, 3], "order": "RGB, rows"}}
    assert about["labels"] == ["good", "defective"] and about["preprocess"]["resize"] == 112
    assert about["calibration"]["image_threshold"] > 0
    assert about["compared with dygraph"]["pictures"] == 8
    assert all(value < 1e-5 for name, value in about["compared with dygraph"].items() if name != "pictures")
    about = json.loads((exports["split", "float32"] / "about.json").read_text())
    assert about["inputs"]["image"]["shape"] == ["batch", 3, 96, 96]


@pytest.mark.once
def test_about_says_height_before_width(exports: dict[tuple, Path]) -> None:
    _, header = read_tensors(exports["split", "float32"] / "stats", "stats")
    header["preprocess"]["crop_size"] = [96, 64]
    assert description(header)["inputs"]["image"]["shape"] == ["batch", 3, 96, 64]
    assert description({**header, "input": "uint8"})["inputs"]["image"]["shape"] == ["batch", 96, 64, 3]
    assert [output["shape"] for output in description(header)["outputs"]] == [["batch", 96, 64], ["batch"]]


@pytest.mark.once
@pytest.mark.parametrize("way", [("split", "float32"), ("fused", "uint8")])
def test_what_is_not_of_one_export_is_refused(
    exports: dict[tuple, Path], models: dict[str, Path], data: Path, tmp_path: Path, way: tuple[str, str]
) -> None:
    copy = Path(shutil.copytree(exports[way], tmp_path / "export"))
    words = ["--layout", way[0], "--input", way[1]]
    picture = ["-i", data / "washer/test/good/000.png", "--save_path", tmp_path / "out"]

    def infer() -> object:
        return run("infer.py", "--stats", copy / "stats", *picture)

    stats = (copy / "stats").read_bytes()
    for method in ("padim", "spade"):
        other = tmp_path / method
        done(run("export_model.py", "--model_path", models[method], "--save_dir", other, *words))
        shutil.copy(other / "stats", copy / "stats")
        refused(infer(), "model.json", "another export")
    (copy / "stats").write_bytes(stats)
    graph = (copy / "model.json").read_bytes()
    (copy / "model.json").write_bytes(graph[:-100])
    refused(infer(), "model.json", "damaged")
    (copy / "model.json").write_bytes(graph)
    tensors, header = read_tensors(copy / "stats", "stats")
    tensors["selfcheck.map"] = tensors["selfcheck.map"] * np.float32(1.01)
    write_tensors(copy / "stats", tensors, header)
    refused(infer(), "self-check")
    assert not (tmp_path / "out").exists()


@pytest.mark.once
@pytest.mark.parametrize("method", [name for name in METHODS if name != "patchcore"])
def test_onnx_of_every_method(models: dict[str, Path], data: Path, tmp_path: Path, method: str) -> None:
    words = ["--model_path", models[method], "--save_dir", tmp_path, "--format", "onnx"]
    assert "ONNX Runtime" in done(run("export_model.py", *words, "--data_path", data)).stdout


def test_pictures_of_every_layout_of_data_are_compared(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    tests = [f"{path},{path.parent.name},test,washer" for path in list_pictures(data / "washer/test")[:3]]
    good = [f"{path},good,train,washer" for path in list_pictures(data / "washer/train/good")[:2]]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split,category", *good, *tests]))
    words = ["--model_path", models["patchcore"], "--save_dir", tmp_path / "out", "--category", "washer"]
    said = done(run("export_model.py", *words, "--data_path", tmp_path / "table.csv")).stdout
    assert f"on 3 pictures of {tmp_path / 'table.csv'} and a drawn one" in said


@pytest.mark.skipif(not PADDLE3, reason="paddle2onnx takes Paddle 3")
def test_onnx_runtime_warns_of_nothing(exports: dict[tuple, Path], capfd: pytest.CaptureFixture) -> None:
    OnnxProgram(exports["split", "float32"] / "model.onnx")
    assert not capfd.readouterr().err


@pytest.mark.once
def test_without_paddle2onnx_one_line_says_what_to_install(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "paddle2onnx.py").write_text("raise ImportError\n")
    words = ["--model_path", models["patchcore"], "--save_dir", tmp_path / "out", "--format", "onnx"]
    refused(
        run_process("export_model.py", *words, env={"PYTHONPATH": str(tmp_path)}), "pip install paddle2onnx onnxruntime"
    )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(PADDLE3, reason="paddle2onnx takes Paddle 3")
def test_paddle_2_is_told_that_onnx_needs_paddle_3(models: dict[str, Path], tmp_path: Path) -> None:
    words = ["--model_path", models["patchcore"], "--save_dir", tmp_path, "--format", "onnx"]
    refused(run("export_model.py", *words), "--format onnx", "use Paddle 3")
