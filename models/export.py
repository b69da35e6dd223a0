"""Writing a fitted model as a static program and a stats file, and proving that they compute what the model does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from deploy.files import make_folder, scratch_folder
from deploy.predictor import Predictor, file_sha256
from deploy.program import Runtime
from deploy.tensors import write_tensors

from .compiled import save_scoring
from .detector import Detector


class Export(NamedTuple):
    """The files of one export, and how far the program was from dygraph on the self-check."""

    model_file: Path
    params_file: Path
    stats: Path
    difference: float


def export(model: Detector, folder: str | Path) -> Export:
    """Write `model.json` (Paddle 2: `model.pdmodel`), `model.pdiparams` and `stats` to `folder`.

    Everything is written aside, loaded from there and compared with the stored dygraph answer, with oneDNN and without,
    before it takes the place of an earlier export.

    Raises:
        UserError: the program computes something else than the model, or the files cannot be written.
    """
    folder = make_folder(folder)
    with scratch_folder(beside=folder) as scratch:
        program = save_scoring(model, scratch)
        files = {"graph_sha256": file_sha256(program[0]), "params_sha256": file_sha256(program[1])}
        header = {**model.header, "kind": "stats", "program": files}
        stats = write_tensors(scratch / "stats", model.tensors(), header)
        gpu = model.runtime.use_gpu
        runtimes = (
            [model.runtime] if gpu else [Runtime(onednn=on, threads=model.runtime.threads) for on in (True, False)]
        )
        difference = max(Predictor.load(stats, *program, runtime).selfcheck for runtime in runtimes)
        written = [folder / path.name for path in (*program, stats)]
        for path, target in zip((*program, stats), written):
            os.replace(path, target)
    return Export(*written, difference)
