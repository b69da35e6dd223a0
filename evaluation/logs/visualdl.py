"""Log for VisualDL, PaddlePaddle's own experiment log: a folder per run, which `visualdl` shows."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from deploy.storage.files import make_folder

from .run import Run


def write(run: Run, folder: Path) -> str:
    """Add the run to the log in `folder`; return the command that shows it. UserError if it cannot be written."""
    from visualdl import LogWriter

    place = make_folder(folder / run.name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f"))
    with LogWriter(logdir=str(place)) as writer:
        for name, value in run.figures.items():
            writer.add_scalar(name, value, 0)
        writer.add_hparams(run.settings, list(run.figures))
        for name, path in run.pictures.items():
            picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
            writer.add_image(name, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), 0)
    return f"visualdl --logdir {shlex.quote(str(folder))}"
