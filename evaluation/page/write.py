"""Writes the page, and its curves and times as files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from deploy.results.picture_folder import PictureFolder
from deploy.storage.files import check_replaceable, make_folder, write_whole
from deploy.storage.table import write_csv

from ..chapter import Chapter
from . import curves as points
from . import plots
from .content import content
from .texts import words

LIBRARIES = {"matplotlib": "matplotlib", "sklearn": "scikit-learn", "jinja2": "jinja2"}
"""Modules that only the report needs, with the names of their packages."""
HERE = Path(__file__).parent
START = "<!doctype html>\n<!-- PaddlePatch report -->\n"
THRESHOLDS = ("category", "threshold", "best_f1_threshold", "good", "false_alarms", "defective", "misses")
TIMES = ("category", "run", "stage", "seconds")


def write_page(table: Path, chapters: Sequence[Chapter], language: str) -> Path:
    """Write `NAME.html` beside the run's table `NAME.csv`, and curves and times to `NAME_report/`.

    Args:
        table: path of the table of figures.
        chapters: the categories in the order of their rows, one or more.
        language: one of `texts.LANGUAGES`.

    Raises:
        UserError: a file cannot be written, or would replace another program's file.
    """
    path, folder = table.with_suffix(".html"), make_folder(table.with_name(f"{table.stem}_report"))
    check_replaceable(path, START.encode())
    found = {chapter.name: points.curves_of(chapter.outcome) for chapter in chapters}
    text = words(language)
    drawn = {name: _drawn(chapter, found[name], text) for name, chapter in zip(found, chapters)}
    over_all = {
        "roc": plots.all_roc_plot(found, plots.Labels(text)),
        "pro": plots.all_pro_plot(found, plots.Labels(text)),
    }
    with ExitStack() as stack:
        pictures = PictureFolder(folder, "report")
        pictures.collect(stack)
        for kind, plot in over_all.items():
            pictures.write(kind, plot.png)
        for name, of_category in drawn.items():
            for kind in over_all:
                pictures.write(f"{name}/{kind}", of_category[kind].png)
        pictures.publish()
    _write_tables(folder, chapters, found)
    write_whole(path, _page(chapters, text, over_all, drawn))
    print(f"report: {path}; its curves and times: {folder}", flush=True)
    return path


def _drawn(chapter: Chapter, curves: points.Curves, text: Mapping[str, str]) -> dict[str, plots.Plot]:
    """Draw the plots of a category, in the order of the page."""
    return {
        "scores": plots.score_plot(chapter.outcome, plots.Labels(text)),
        "roc": plots.roc_plot(chapter.outcome, curves, plots.Labels(text)),
        "recall": plots.recall_plot(chapter.outcome, curves, plots.Labels(text)),
        "pro": plots.pro_plot(chapter.outcome, curves, plots.Labels(text)),
    }


def _write_tables(folder: Path, chapters: Sequence[Chapter], found: dict[str, points.Curves]) -> None:
    kinds = {
        "roc": (points.ROC_COLUMNS, points.roc_rows),
        "precision_recall": (points.RECALL_COLUMNS, points.recall_rows),
        "pro": (points.PRO_COLUMNS, points.pro_rows),
    }
    for kind, (columns, rows) in kinds.items():
        write_csv(
            folder / f"{kind}.csv", columns, [row for name, curves in found.items() for row in rows(name, curves)]
        )
    decided = [(chapter.name, chapter.outcome.figures.decided) for chapter in chapters]
    levels = [(n, one.threshold, one.best_threshold, *one[1:5]) for n, one in decided]
    write_csv(folder / "thresholds.csv", THRESHOLDS, levels)
    sides = {"fit": lambda chapter: chapter.fitting, "evaluation": lambda chapter: chapter.outcome.seconds}
    seconds = [
        (chapter.name, side, stage, f"{value:.3f}")
        for chapter in chapters
        for side, of in sides.items()
        for stage, value in of(chapter).items()
    ]
    write_csv(folder / "times.csv", TIMES, seconds)


def _page(
    chapters: Sequence[Chapter],
    text: Mapping[str, str],
    over_all: dict[str, plots.Plot],
    drawn: dict[str, dict[str, plots.Plot]],
) -> bytes:
    """Return the html text. The template escapes all values except our own plots, style and script."""
    from jinja2 import Environment, StrictUndefined  # only a report needs it
    from markupsafe import Markup

    numbers = iter(range(10**6))
    script = (HERE / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = template.from_string((HERE / "page.html").read_text("utf-8")).render(
        content(chapters, text),
        text=text,
        style=Markup((HERE / "page.css").read_text("utf-8")),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        over_all=[Markup(plot.inline(next(numbers))) for plot in over_all.values()],
        plots=[[Markup(plot.inline(next(numbers))) for plot in of.values()] for of in drawn.values()],
    )
    return (START + page).encode(errors="backslashreplace")
