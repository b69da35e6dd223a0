"""Times of fitting a model, in a table beside the model. They are not in the model's file, whose bytes are the same for
the same seed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.results.tables import provenance_columns
from deploy.storage.files import make_folder
from deploy.storage.table import original, write_csv

COLUMNS = ("stage", "seconds")


def times_path(model_path: Path) -> Path:
    """Return the path of the table of times of the model at `model_path`."""
    return model_path.with_suffix("") / "times.csv"


def write_times(model_path: Path, seconds: Mapping[str, float], header: Mapping[str, Any], command: str) -> Path:
    """Write a row per stage, with provenance columns from the model's `header` and `command`.

    UserError as in `write_csv`.
    """
    path, provenance = times_path(model_path), provenance_columns(dict(header), command)
    make_folder(path.parent)
    rows = [(stage, f"{value:.3f}", *provenance.values()) for stage, value in seconds.items()]
    return write_csv(path, (*COLUMNS, *provenance), rows)


def read_times(model_path: Path, header: Mapping[str, Any]) -> dict[str, float]:
    """Read the seconds by stage; empty if there is no table, or if it belongs to another model than `header`."""
    wanted = provenance_columns(dict(header), header.get("command", ""))
    try:
        with open(times_path(model_path), newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        told = {(row["data_sha256"], original(row["command"]), row["seed"], row["versions"]) for row in rows}
        mine = (wanted["data_sha256"], wanted["command"], str(wanted["seed"]), wanted["versions"])
        return {row["stage"]: float(row["seconds"]) for row in rows} if told == {mine} else {}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return {}
