"""Evaluations in logs of experiments; a further log is a file here with a function `write`, and a line in PACKAGES."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from deploy.storage.files import make_folder

from ..chapter import Chapter
from .run import run_of

PACKAGES = {"visualdl": "visualdl", "wandb": "wandb", "mlflow": "mlflow"}
"""The values of --log, which are modules as well, and the packages that have them; imported when they are asked for."""


def write_log(name: str, table: Path, chapters: Sequence[Chapter], save_path: Path) -> None:
    """Add a run to the log `save_path/logs/NAME`, called as its table is called, and print how to look at it.

    Args:
        name: one of PACKAGES.
        table: of the figures, below `save_path`.
        chapters: the categories, one or more.
        save_path: has the logs of all runs, which can be compared there.

    Raises:
        UserError: the log cannot be written.
    """
    write = import_module(f".{name}", __name__).write
    told = write(run_of(table, chapters, save_path), make_folder(save_path / "logs" / name))
    print(f"log: {told}", flush=True)
