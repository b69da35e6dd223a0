"""The data of a run of train.py or eval.py that is written to a log: all categories that it evaluated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from ..chapter import Chapter
from ..report import FIGURES, means_of

Value = Union[str, int, float]
LONGEST = 6000
"""Largest length of a setting, the limit of MLflow; the run lengths of --roi may be longer."""


@dataclass(frozen=True)
class Run:
    """One run; its names have only characters that every log accepts."""

    name: str
    """Path of its table below --save_path, for instance `patchcore_resnet18_3/bottle_seed521`."""
    settings: dict[str, Value]
    """Settings by name; `CATEGORY/NAME` if categories differ."""
    figures: dict[str, float]
    """`CATEGORY/FIGURE` by the names of the table, `mean/FIGURE`, and times such as `CATEGORY/seconds/fit/STAGE`."""
    pictures: dict[str, Path]
    """Files that the run has drawn: `CATEGORY/contact_sheet`, and the worst ones, `CATEGORY/missed/KIND/NAME`."""


def run_of(table: Path, chapters: Sequence[Chapter], save_path: Path) -> Run:
    """Return the run whose table of figures is `table`; `chapters` are its categories."""
    settings = [_settings(chapter) for chapter in chapters]
    shared = {key: value for key, value in settings[0].items() if all(one.get(key) == value for one in settings)}
    for chapter, own in zip(chapters, settings):
        shared.update({f"{chapter.name}/{key}": value for key, value in own.items() if key not in shared})
    means = dict(zip(FIGURES, means_of([chapter.outcome.row for chapter in chapters])))
    figures = {f"mean/{name}": value for name, value in means.items() if value is not None}
    pictures: dict[str, Path] = {}
    for chapter in chapters:
        figures.update({f"{chapter.name}/{name}": value for name, value in _figures(chapter).items()})
        pictures.update({f"{chapter.name}/{name}": path for name, path in _pictures(chapter).items()})
    below = table.with_suffix("").absolute().relative_to(save_path.absolute())
    parts = ({_plain(key): one[key] for key in one} for one in (shared, figures, pictures))
    return Run(_plain(below.as_posix()), *parts)


def _settings(chapter: Chapter) -> dict[str, Value]:
    """Return all settings of the model and of the evaluation."""
    header, levels = chapter.header, chapter.outcome.levels
    told = {
        "command": chapter.command,
        "fit_command": header.get("command", ""),
        **{name: header[name] for name in ("method", "arch", "layers", "k", "seed")},
        **{f"options.{name}": value for name, value in header["options"].items()},
        **{f"preprocess.{name}": value for name, value in header["preprocess"].items()},
        **{f"versions.{name}": value for name, value in header["versions"].items()},
        "training_pictures": header["data"]["pictures"],
        "data_sha256": header["data"]["sha256"],
        "backbone_sha256": chapter.backbone_sha256,
        "false_alarm": levels.false_alarm,
        "threshold": levels.image_threshold,
        "pixel_threshold": levels.pixel_threshold,
    }
    return {name: _value(value) for name, value in told.items()}


def _value(value: object) -> Value:
    """Return a number as it is, a list as words, None as an empty text, anything else as text of at most LONGEST."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    words = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return " ".join(map(str, words)).encode(errors="backslashreplace").decode()[:LONGEST]


def _figures(chapter: Chapter) -> dict[str, float]:
    outcome = chapter.outcome
    found = {name: outcome.row[name] for name in FIGURES if outcome.row[name] is not None}
    for side, seconds in {"fit": chapter.fitting, "evaluation": outcome.seconds}.items():
        found.update({f"seconds/{side}/{stage}": value for stage, value in seconds.items()})
    return found


def _pictures(chapter: Chapter) -> dict[str, Path]:
    sheet = chapter.outcome.contact_sheet
    worst = [one for one in (*chapter.misses(), *chapter.false_alarms()) if one.heat_map is not None]
    return {
        **({} if sheet is None else {"contact_sheet": sheet}),
        **{f"{one.verdict}/{one.kind}/{one.path.stem}": one.heat_map for one in worst},
    }


def _plain(name: str) -> str:
    """Replace the characters of a name that a log does not accept by `_`."""
    return re.sub(r"[^\w./ -]", "_", name)
