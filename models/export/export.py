"""Export a fitted model as a static program and a stats file, and compare both with the model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle

from deploy.command_line.progress import progress
from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.preprocess import height_width
from deploy.predictor import Predictor, file_sha256
from deploy.runtime import selfcheck
from deploy.runtime.program import Program, Runtime
from deploy.storage.files import check_replaceable, make_folder, scratch_folder, write_whole
from deploy.storage.tensors import START, write_tensors

from ..base.detector import Detector
from ..graph.compiled import save_scoring
from .onnx import OnnxProgram, to_onnx

FILES = ("model.json", "model.pdmodel", "model.pdiparams", "model.onnx", "about.json")
"""All files that an export may write besides `stats`, with Paddle 3 or Paddle 2."""


class Export(NamedTuple):
    """The files of an export by kind, and how far its results are from the model's."""

    files: dict[str, Path]
    compared: dict[str, float]
    """For each way to run the program, the largest `selfcheck.difference` from dygraph; and in `pictures`, the number
    of pictures that were compared besides that of the self-check."""


def export(
    model: Detector,
    folder: str | Path,
    layout: str = "split",
    input_type: str = "float32",
    onnx: bool = False,
    pictures: Sequence[Picture] = (),
) -> Export:
    """Write `model.json` (Paddle 2: `model.pdmodel`), `model.pdiparams`, `stats` and `about.json` to `folder`.

    All files are first written to a temporary folder and run from there. The results are compared with dygraph, on the
    CPU with and without oneDNN. Only then do the files replace an earlier export, all of it.

    Args:
        model: a fitted model.
        folder: created if it does not exist.
        layout: `split`, a program for all categories, with the statistics of one category in `stats`; or `fused`, a
            program that contains the statistics, while `stats` has the header and the self-check only.
        input_type: type of the program's input: `float32` [batch, 3, crop, crop], normalised, or `uint8`
            [batch, crop, crop, 3], RGB.
        onnx: write `model.onnx` as well, with the same layout and input.
        pictures: pictures to compare on, besides that of the self-check.

    Raises:
        UserError: layout or input type is unknown, a program computes something else than the model, or the files
            cannot be written or would replace files that are not an export.
    """
    if layout not in ("split", "fused") or input_type not in ("float32", "uint8"):
        raise UserError(f"layout {layout}, input {input_type}: choose split or fused, and float32 or uint8")
    folder = make_folder(folder)
    check_free(folder)
    with scratch_folder(beside=folder) as scratch:
        graph, params = save_scoring(model, scratch, layout == "fused", input_type == "uint8")
        files = {"program": graph, "parameters": params}
        if onnx:
            files["onnx"] = to_onnx(graph, params, scratch / "model.onnx")
        names = {"program": "graph_sha256", "parameters": "params_sha256", "onnx": "onnx_sha256"}
        hashes = {names[what]: file_sha256(path) for what, path in files.items()}
        header = {**model.header, "kind": "stats", "layout": layout, "input": input_type, "program": hashes}
        tensors = model.checks if layout == "fused" else model.tensors()
        header["compared"] = compare(model, make_runners(model, files, tensors, header), pictures)
        files["stats"] = write_tensors(scratch / "stats", tensors, header)
        files["description"] = write_whole(scratch / "about.json", json.dumps(description(header), indent=2) + "\n")
        for path in files.values():
            os.replace(path, folder / path.name)
        for name in set(FILES) - {path.name for path in files.values()}:
            if (folder / name).is_file():  # of the earlier export, perhaps by another Paddle
                (folder / name).unlink()
    return Export({what: folder / path.name for what, path in files.items()}, header["compared"])


def check_free(folder: Path) -> None:
    """Raise UserError if `folder` has files that an export would replace and that are not an export themselves."""
    check_replaceable(folder / "stats", START, 8)
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not (folder / "stats").is_file():
        raise UserError(f"{folder / there[0]} is of no export: move it away, or give another --save_dir")


def make_runners(
    model: Detector, files: dict[str, Path], tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> dict[str, Predictor]:
    """Return a predictor for every way to run the files, by name; each has passed its self-check."""
    threads, gpu = model.runtime.threads, model.runtime.use_gpu
    runtimes = {"oneDNN": Runtime(threads=threads), "plain CPU": Runtime(onednn=False, threads=threads)}
    programs: dict[str, Program | OnnxProgram] = {
        name: Program(files["program"], files["parameters"], runtime)
        for name, runtime in ({"GPU": model.runtime} if gpu else runtimes).items()
    }
    if "onnx" in files:
        programs["ONNX Runtime"] = OnnxProgram(files["onnx"])
    return {name: Predictor(program, tensors, header) for name, program in programs.items()}


def compare(model: Detector, runners: dict[str, Predictor], pictures: Sequence[Picture]) -> dict[str, float]:
    """Return the largest `selfcheck.difference` of each runner from dygraph, over the probe and `pictures`.

    The result has the number of `pictures` as well. UserError if a difference is too large.
    """
    preprocess, worst = model.preprocess, {name: runner.selfcheck for name, runner in runners.items()}
    for picture in progress(pictures, len(pictures), "comparing", delay=1):
        for part in preprocess.parts(preprocess.crop(preprocess.resized(picture))):
            with paddle.no_grad():
                answer = model(paddle.to_tensor(preprocess.normalise(part[None])))
            known = selfcheck.expected(*(tensor.numpy() for tensor in answer))
            for name, runner in runners.items():
                found = runner.program.run(runner.to_input(part[None]))
                worst[name] = max(worst[name], selfcheck.verify(known, *found, "fp32", f"the export, run by {name},"))
    return {"pictures": len(pictures), **worst}


def description(header: dict[str, Any]) -> dict[str, Any]:
    """Return a plain json description of the export for programs in other languages."""
    size = height_width(header["preprocess"]["crop_size"])
    uint8 = header["input"] == "uint8"
    shape, order = (["batch", *size, 3], "RGB, rows") if uint8 else (["batch", 3, *size], "RGB planes")
    return {
        "model": {name: header[name] for name in ("method", "arch", "layers", "k", "options")},
        "layout": header["layout"],
        "inputs": {"image": {"type": header["input"], "shape": shape, "order": order}},
        "outputs": [
            {"what": "anomaly map", "type": "float32", "shape": ["batch", *size]},
            {"what": "image score", "type": "float32", "shape": ["batch"]},
        ],
        "preprocess": header["preprocess"],
        "calibration": header["calibration"],
        "labels": ["good", "defective"],
        "program": header["program"],
        "compared with dygraph": header["compared"],
        "versions": header["versions"],
    }
