"""Evaluations in experiment logs. To add a log, add a file here with a function `write`, and an entry in PACKAGES."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from deploy.storage.files import make_folder

from ..chapter import Chapter
from .run import run_of

PACKAGES = {"visualdl": "visualdl", "wandb": "wandb", "mlflow": "mlflow"}
"""Values of --log, which are also names of modules, with their packages; they are imported only when they are used."""


def write_log(name: str, table: Path, chapters: Sequence[Chapter], save_path: Path) -> None:
    """Add a run, named after its table, to the log `save_path/logs/NAME`, and print the command that shows it.

    Args:
        name: one of PACKAGES.
        table: path of the table of figures, below `save_path`.
        chapters: the categories, one or more.
        save_path: folder with the logs of all runs, so that they can be compared.

    Raises:
        UserError: the log cannot be written.
    """
    write = import_module(f".{name}", __name__).write
    told = write(run_of(table, chapters, save_path), make_folder(save_path / "logs" / name))
    print(f"log: {told}", flush=True)
