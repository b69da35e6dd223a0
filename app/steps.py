"""What the page does with models: each step calls what the scripts call, on one visitor's workspace.

The functions that take `log` run in the background; see `app.jobs`.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

import options
from datasets.readers import Category, LabelledPicture, read_mask
from datasets.readers.mvtec import MVTec
from datasets.sample import write_sample
from deploy.calibration import Calibration
from deploy.errors import Skipped, UserError
from deploy.pictures.decode import encode_png
from deploy.results.heatmap import panel
from deploy.results.tables import ScoreSheet, provenance_columns
from deploy.runtime.program import Runtime
from deploy.storage.files import make_folder
from evaluation.decisions import Decisions, Goal
from evaluation.labelled import calibrated
from models import AnomalyMethod, Detector, build_model, load_model
from models.export.export import export
from models.presets import preset
from options.pictures import value_range

from .uploads import MOST_TESTED, Upload
from .workspace import Result, Workspace

METHOD, COMMAND = "patchcore", "python -m app"
BATCH = 8
SAMPLE = {"train": 20, "good": 8, "bad": 2}
"""Sample pictures: fewer than the scripts draw, as a visitor waits."""
Log = Callable[[str], None]


class Settings(NamedTuple):
    """How a model is fitted."""

    preset: str
    arch: str
    weights: str | None
    runtime: Runtime


def sample(workspace: Workspace, name: str, log: Log) -> Category:
    """Draw a category of the sample data in the workspace, or find it there."""
    folder = workspace.folder / "sample"
    log("sample pictures are drawn")
    write_sample(folder, categories=[name], **SAMPLE)
    return MVTec(name, folder / name)


def fit_category(workspace: Workspace, category: Category, settings: Settings, log: Log) -> None:
    """Fit on a category's good pictures, and score its test pictures, if it has any."""

    def told(line: str) -> None:
        log(line.replace(f"{category.folder}/", ""))

    fit(workspace, category.name, category.train_pictures(), settings, told)
    try:
        tested = category.test_pictures()
    except UserError as error:  # good pictures alone
        told(str(error))
        return
    step = -(-len(tested) // MOST_TESTED)
    pictures = [Upload(one.path, f"{one.defect}/{one.path.name}") for one in tested[::step]]
    score(workspace, pictures, log, tested[::step])


def fit(workspace: Workspace, name: str, pictures: Sequence[Path], settings: Settings, log: Log) -> None:
    """Fit a model on good pictures, as train.py does, and write it; it takes the place of the visitor's last one.

    Raises:
        UserError: as `Detector.fit`.
    """
    found, limits = preset(METHOD, settings.preset), value_range(pictures)
    preprocess = options.preset_preprocess(METHOD, found, pictures)
    model = build_model(
        METHOD,
        [settings.arch],
        [found.layers],
        [settings.weights],
        k=found.k,
        preprocess=preprocess if limits is None else replace(preprocess, value_range=limits),
        runtime=settings.runtime,
        **found.options,
    )
    log(f"weights: {', '.join(backbone.source for backbone in model.backbones())}")
    model.fit(pictures, BATCH, log=log)
    model.save(workspace.model_path, COMMAND)
    _take(workspace, model, name)


def load(workspace: Workspace, name: str, path: Path, runtime: Runtime, log: Log) -> None:
    """Load a model and copy it into the workspace: what a visitor changes is their own."""
    model = load_model(path, runtime)
    model.save(workspace.model_path, model.header.get("command", ""))
    log(f"model: {name}")
    _take(workspace, model, name)


def _take(workspace: Workspace, model: Detector, name: str) -> None:
    forget_results(workspace)
    workspace.model, workspace.model_name, workspace.rate = model, name, model.calibration.false_alarm
    workspace.files.clear()


def forget_results(workspace: Workspace) -> None:
    """Delete all test pictures and what was found in them."""
    workspace.remove([result.picture for result in workspace.results])
    workspace.results = []
    workspace.files.pop("results", None)


def score(
    workspace: Workspace,
    pictures: Sequence[Upload],
    log: Log,
    labelled: Sequence[LabelledPicture] | None = None,
    truth: bool | None = None,
) -> None:
    """Score test pictures and add them to the results.

    Args:
        workspace: has a model.
        pictures: their places and names.
        log: told how many are done.
        labelled: the same with label and masks, where they come from a data set.
        truth: whether all of them are defective, where the visitor said so.
    """
    model, skipped = workspace.model, Skipped()
    by_path = {str(picture.path): number for number, picture in enumerate(pictures)}
    paths = [picture.path for picture in pictures]
    for count, prediction in enumerate(model.predict(paths, 1, on_bad=skipped), 1):
        number, mask, known = by_path[prediction.name], None, truth
        if labelled is not None:
            found = read_mask(labelled[number], model.preprocess, prediction.shape)
            known, mask = labelled[number].defective, found if found is not None and found.any() else None
        shown = replace(prediction, name=pictures[number].name)
        workspace.results.append(Result(pictures[number], shown, known, mask=mask))
        log(f"scored: {count} of {len(paths)}")
    workspace.files.pop("results", None)
    if skipped:
        workspace.notes.append(("unread", {"count": len(skipped)}))


def levels(workspace: Workspace) -> Calibration:
    """The model's thresholds, for the rate of false alarms that the visitor chose."""
    own = workspace.model.calibration
    return own if workspace.rate is None else own.at(false_alarm=workspace.rate)


def heat_map(workspace: Workspace, result: Result, thresholds: Calibration) -> bytes:
    """PNG of the picture beside its map, drawn once for each pair of thresholds."""
    key = thresholds.image_threshold, thresholds.pixel_threshold
    if result.drawn is None or result.drawn[0] != key:
        drawn = panel(result.prediction, thresholds, workspace.model.preprocess, result.mask)
        result.drawn = key, encode_png(drawn)
    return result.drawn[1]


def labelled_results(workspace: Workspace) -> list[Result]:
    """Those whose truth is known."""
    return [result for result in workspace.results if result.truth is not None]


def decisions(results: Sequence[Result], threshold: float) -> Decisions:
    """False alarms and misses among results whose truth is known."""
    scores = np.array([result.prediction.score for result in results])
    return Decisions.at(threshold, scores, np.array([bool(result.truth) for result in results], bool))


def mark_wrong(workspace: Workspace, result: Result) -> None:
    """The visitor says that the verdict is wrong: the picture is now a labelled one."""
    result.marked = not levels(workspace).is_defect(result.prediction.score)
    workspace.files.pop("results", None)


def unmark(workspace: Workspace, result: Result) -> None:
    """The visitor takes that back."""
    result.marked = None
    workspace.files.pop("results", None)


def calibrate(workspace: Workspace, goal: Goal) -> None:
    """Set the model's threshold by all results whose truth is known, as eval.py --calibrate does.

    Raises:
        UserError: they are all good or all defective, or none reaches the goal.
    """
    model, known = workspace.model, labelled_results(workspace)
    scores = np.array([result.prediction.score for result in known])
    truth, paths = np.array([result.truth for result in known], bool), [result.picture.path for result in known]
    model.set_thresholds(calibrated(model.calibration, paths, scores, truth, goal), workspace.model_path)
    workspace.rate = None
    workspace.files.clear()


def can_learn(workspace: Workspace) -> list[Result]:
    """Good pictures, by the visitor's own word, that the model can be updated with; none where it cannot be."""
    if not isinstance(workspace.model, AnomalyMethod) or workspace.model.preprocess.tiled:
        return []
    return [result for result in workspace.results if result.marked is False]


def learn(workspace: Workspace, log: Log) -> None:
    """Add the good pictures that were marked to the model, as train.py --update does, and score the others again.

    They are test pictures no more.
    """
    model, taken = workspace.model, can_learn(workspace)
    model.update([result.picture.path for result in taken], BATCH, log=log)
    model.save(workspace.model_path, COMMAND)
    workspace.rate = model.calibration.false_alarm
    workspace.files.clear()
    left = [result for result in workspace.results if not any(result is one for one in taken)]
    again = model.predict([result.picture.path for result in left])
    for count, (result, prediction) in enumerate(zip(left, again), 1):
        result.prediction, result.drawn = replace(prediction, name=result.picture.name), None
        log(f"scored: {count} of {len(left)}")
    workspace.results = left
    workspace.remove([result.picture for result in taken])


def zip_export(workspace: Workspace, log: Log) -> None:
    """The folder that export_model.py writes, as one file for download."""
    folder = workspace.folder / "export"
    shutil.rmtree(folder, ignore_errors=True)
    export(workspace.model, folder)
    log("export: compared with the model")
    workspace.files["export"] = _zipped(folder, workspace.folder / "export.zip")


def zip_model(workspace: Workspace, log: Log) -> None:
    """The model's file with its backbone, as train.py writes them."""
    log("model")
    workspace.files["model"] = _zipped(workspace.model_path.parent, workspace.folder / "model.zip")


def zip_results(workspace: Workspace, log: Log) -> None:
    """The table and the heat maps that predict.py writes, for the thresholds that the visitor sees."""
    folder, model, thresholds = workspace.folder / "results", workspace.model, levels(workspace)
    shutil.rmtree(folder, ignore_errors=True)
    columns = provenance_columns(model.header, model.header.get("command") or COMMAND)
    extra = ("heat_map", "truth")
    told = {None: "", True: "defective", False: "good"}
    with ScoreSheet(make_folder(folder), "predict", thresholds, model.preprocess, columns, extra=extra) as sheet:
        for number, result in enumerate(workspace.results, 1):
            sheet.add(result.prediction, f"{number:03}", result.mask, (f"heatmaps/{number:03}.png", told[result.truth]))
        sheet.finish()
    log("results: table and heat maps")
    workspace.files["results"] = _zipped(folder, workspace.folder / "results.zip")


DOWNLOADS: dict[str, Callable[[Workspace, Log], None]] = {
    "export": zip_export,
    "model": zip_model,
    "results": zip_results,
}
"""What can be downloaded, by the key of its text, and who makes it. A further kind of file is a line here."""


def file_name(workspace: Workspace, kind: str) -> str:
    """What a download is called: the model's name in plain letters, and the kind."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", Path(workspace.model_name).with_suffix("").as_posix()).strip("_")
    return f"{plain or 'model'}_{kind}.zip"


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                archive.write(file, file.relative_to(folder))
    return path
