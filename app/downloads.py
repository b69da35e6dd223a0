"""Files for download. They are made on request, from the existing model and results; nothing is scored again."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable

from deploy.results.regions import find_regions
from deploy.results.tables import ScoreSheet, provenance_columns
from deploy.storage.files import make_folder
from evaluation.chapter import Chapter
from evaluation.page import write_page
from evaluation.report import Report, compute_figures, write_report
from evaluation.run import NAMED_REGIONS, Outcome, Shown
from models.export.export import export

from .steps import COMMAND, Log, heat_map, labelled_results, levels
from .workspace import Result, Workspace


def zip_export(workspace: Workspace, log: Log) -> None:
    """Make a zip file of the folder that export_model.py writes."""
    folder = workspace.folder / "export"
    shutil.rmtree(folder, ignore_errors=True)
    export(workspace.model, folder)
    log("export: compared with the model")
    workspace.files["export"] = _zipped(folder, workspace.folder / "export.zip")


def zip_model(workspace: Workspace, log: Log) -> None:
    """Make a zip file of the model's file and its backbone, as train.py writes them."""
    log("model")
    workspace.files["model"] = _zipped(workspace.model_path.parent, workspace.folder / "model.zip")


def zip_results(workspace: Workspace, log: Log) -> None:
    """Make a zip file of the table and heat maps that predict.py writes, with the thresholds that the visitor sees."""
    folder, model, thresholds = workspace.folder / "results", workspace.model, levels(workspace)
    shutil.rmtree(folder, ignore_errors=True)
    columns = provenance_columns(model.header, model.header.get("command") or COMMAND)
    extra = ("heat_map", "truth")
    told = {None: "", True: "defective", False: "good"}
    with ScoreSheet(make_folder(folder), "predict", thresholds, model.preprocess, columns, extra=extra) as sheet:
        for number, result in enumerate(workspace.results, 1):
            sheet.add(
                result.prediction, f"{number:03}", result.outline, (f"heatmaps/{number:03}.png", told[result.truth])
            )
        sheet.finish()
    log("results: table and heat maps")
    workspace.files["results"] = _zipped(folder, workspace.folder / "results.zip")


def zip_report(workspace: Workspace, log: Log) -> None:
    """Make a zip file of the page that eval.py --report writes.

    It is about the labelled pictures, with the thresholds that the visitor sees.
    """
    folder, known = workspace.folder / "report", labelled_results(workspace)
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    chapter = _chapter(workspace)
    log("report: figures")
    pictures, worst = chapter.outcome.pictures, [*chapter.misses(), *chapter.false_alarms()]
    for number, (one, result) in enumerate(zip(pictures, known)):
        if any(one is shown for shown in worst):
            place = folder / f"{number + 1:03}.png"
            place.write_bytes(heat_map(workspace, result, chapter.outcome.levels))
            regions = find_regions(result.prediction, chapter.outcome.levels, workspace.model.preprocess, 0)
            pictures[number] = replace(one, heat_map=place, regions=regions[:NAMED_REGIONS], region_count=len(regions))
    table = folder / f"{chapter.name}.csv"
    columns = provenance_columns(chapter.header, chapter.header.get("command") or COMMAND)
    write_report(table, Report([chapter.outcome.row], [columns]))
    write_page(table, [chapter], workspace.language)
    for place in folder.glob("*.png"):  # they are embedded in the page
        place.unlink()
    log("report: page and curves")
    workspace.files["report"] = _zipped(folder, workspace.folder / "report.zip")


def _chapter(workspace: Workspace) -> Chapter:
    """Evaluate the labelled pictures; return the results for a report."""
    model, thresholds, known = workspace.model, levels(workspace), labelled_results(workspace)
    predictions, truth = [result.prediction for result in known], [bool(result.truth) for result in known]
    figures = compute_figures(predictions, truth, [result.truth_mask for result in known], thresholds, pro=True)
    pictures = [
        Shown(Path(one.name), result.kind, bool(result.truth), one.score, bool(thresholds.is_defect(one.score)), None)
        for one, result in zip(predictions, known)
    ]
    return Chapter(
        Outcome(_plain(workspace, r"\W+"), figures, thresholds, pictures, {}),
        model.header,
        model.stages.seconds,
        COMMAND,
    )


DOWNLOADS: dict[str, Callable[[Workspace, Log], None]] = {
    "export": zip_export,
    "model": zip_model,
    "results": zip_results,
    "report": zip_report,
}
"""Kinds of downloads, by the key of their text, and the functions that make them. To add a kind, add a line here."""
NEEDED: dict[str, Callable[[Workspace], Sequence[Result]]] = {
    "results": lambda workspace: workspace.results,
    "report": labelled_results,
}
"""The test pictures that a download needs; it is offered only if there are any."""


def file_name(workspace: Workspace, kind: str) -> str:
    """Return the file name of a download: the model's name in plain letters, and the kind."""
    return f"{_plain(workspace, r'[^A-Za-z0-9]+')}_{kind}.zip"


def _plain(workspace: Workspace, leave_out: str) -> str:
    """Return the model's name with `_` for what the pattern matches; it is not a path, and never empty."""
    return re.sub(leave_out, "_", Path(workspace.model_name).with_suffix("").as_posix()).strip("_") or "model"


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                archive.write(file, file.relative_to(folder))
    return path
