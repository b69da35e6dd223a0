"""The steps of the page that use models. They call the same functions as the scripts, on one visitor's workspace.

The functions with an argument `log` run in the background, see `app.jobs`.
"""

from __future__ import annotations

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
from deploy.errors import UserError
from deploy.pictures.decode import encode_png
from deploy.results.heatmap import panel
from deploy.runtime.program import Runtime
from evaluation.decisions import Decisions, Goal
from evaluation.labelled import calibrated
from models import AnomalyMethod, Detector, build_model, load_model
from models.presets import preset
from options.pictures import value_range

from .uploads import MOST_TESTED, Upload
from .workspace import Result, Workspace

METHOD, COMMAND = "patchcore", "python -m app"
BATCH = 8
SAMPLE = {"train": 20, "good": 8, "bad": 2}
"""Numbers of sample pictures, fewer than the scripts draw, because a visitor waits for them."""
Log = Callable[[str], None]


class Settings(NamedTuple):
    """Settings of how a model is fitted."""

    preset: str
    arch: str
    weights: str | None
    runtime: Runtime


def sample(workspace: Workspace, name: str, log: Log) -> Category:
    """Draw a category of the sample data in the workspace, unless it is there already."""
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
    except UserError as error:  # the category has good pictures only
        told(str(error))
        return
    step = -(-len(tested) // MOST_TESTED)
    pictures = [Upload(one.path, f"{one.defect}/{one.path.name}") for one in tested[::step]]
    score(workspace, pictures, log, tested[::step])


def fit(workspace: Workspace, name: str, pictures: Sequence[Path], settings: Settings, log: Log) -> None:
    """Fit a model on good pictures, as train.py does, and write it; it replaces the visitor's last model.

    A picture that cannot be used is left out and noted, and removed from the visitor's training pictures.

    Raises:
        UserError: as in `Detector.fit`.
    """

    def left_out(path: str, error: UserError) -> None:
        workspace.leave_out(Upload(Path(path), workspace.readable(path)), error)

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
    model.fit(pictures, BATCH, on_bad=left_out, log=log)
    model.save(workspace.model_path, COMMAND)
    _take(workspace, model, name)


def load(workspace: Workspace, name: str, path: Path, runtime: Runtime, log: Log) -> None:
    """Load a model and copy it into the workspace, so that a visitor changes only their own copy."""
    model = load_model(path, runtime)
    model.save(workspace.model_path, model.header.get("command", ""))
    log(f"model: {name}")
    _take(workspace, model, name)


def _take(workspace: Workspace, model: Detector, name: str) -> None:
    forget_results(workspace)
    workspace.model, workspace.model_name, workspace.rate = model, name, model.calibration.false_alarm
    workspace.files.clear()


def forget_results(workspace: Workspace) -> None:
    """Delete all test pictures and their results."""
    workspace.remove([result.picture for result in workspace.results])
    workspace.results = []
    workspace.outdate()


def score(
    workspace: Workspace,
    pictures: Sequence[Upload],
    log: Log,
    labelled: Sequence[LabelledPicture] | None = None,
    truth: bool | None = None,
) -> None:
    """Score test pictures and add them to the results.

    Args:
        workspace: a workspace with a model.
        pictures: the pictures.
        log: called with lines of progress.
        labelled: the same pictures with labels and masks, if they come from a data set.
        truth: whether all of them are defective, if the visitor has said so.
    """
    model = workspace.model
    by_path = {str(picture.path): number for number, picture in enumerate(pictures)}
    paths = [picture.path for picture in pictures]

    def left_out(path: str, error: UserError) -> None:
        workspace.leave_out(pictures[by_path[path]], error)

    for count, prediction in enumerate(model.predict(paths, 1, on_bad=left_out), 1):
        number, mask, known, kind = by_path[prediction.name], None, truth, None
        if labelled is not None:
            known, kind = labelled[number].defective, labelled[number].defect
            mask = read_mask(labelled[number], model.preprocess, prediction.shape)
        shown = replace(prediction, name=pictures[number].name)
        workspace.results.append(Result(pictures[number], shown, known, kind, mask=mask))
        log(f"scored: {count} of {len(paths)}")
    workspace.outdate()


def levels(workspace: Workspace) -> Calibration:
    """Return the model's thresholds for the false alarm rate that the visitor chose."""
    own = workspace.model.calibration
    return own if workspace.rate is None else own.at(false_alarm=workspace.rate)


def heat_map(workspace: Workspace, result: Result, thresholds: Calibration) -> bytes:
    """Return a PNG of the picture beside its map; it is drawn again only if a threshold or the label has changed."""
    key = thresholds.image_threshold, thresholds.pixel_threshold, result.truth
    if result.drawn is None or result.drawn[0] != key:
        drawn = panel(result.prediction, thresholds, workspace.model.preprocess, result.outline)
        result.drawn = key, encode_png(drawn)
    return result.drawn[1]


def labelled_results(workspace: Workspace) -> list[Result]:
    """Return the results of pictures whose truth is known."""
    return [result for result in workspace.results if result.truth is not None]


def decisions(results: Sequence[Result], threshold: float) -> Decisions:
    """Count false alarms and misses among results whose truth is known."""
    scores = np.array([result.prediction.score for result in results])
    return Decisions.at(threshold, scores, np.array([bool(result.truth) for result in results], bool))


def mark_wrong(workspace: Workspace, result: Result) -> None:
    """Mark the verdict as wrong: the picture then has the opposite label."""
    result.marked = not levels(workspace).is_defect(result.prediction.score)
    workspace.outdate()


def unmark(workspace: Workspace, result: Result) -> None:
    """Undo `mark_wrong`."""
    result.marked = None
    workspace.outdate()


def calibrate(workspace: Workspace, goal: Goal) -> None:
    """Set the model's threshold by all results whose truth is known, as eval.py --calibrate does.

    Raises:
        UserError: they are all good or all defective, or no threshold reaches the goal.
    """
    model, known = workspace.model, labelled_results(workspace)
    scores = np.array([result.prediction.score for result in known])
    truth, paths = np.array([result.truth for result in known], bool), [result.picture.path for result in known]
    model.set_thresholds(calibrated(model.calibration, paths, scores, truth, goal), workspace.model_path)
    workspace.rate = None
    workspace.files.clear()


def marked_good(workspace: Workspace) -> list[Result]:
    """Return the pictures that the visitor marked as good, to update the model with; none if it cannot be updated."""
    if not isinstance(workspace.model, AnomalyMethod):
        return []
    return [result for result in workspace.results if result.marked is False]


def update_model(workspace: Workspace, log: Log) -> None:
    """Add the pictures marked as good to the model, as train.py --update does, and score the other pictures again.

    The added pictures are removed from the test pictures.
    """
    model, taken = workspace.model, marked_good(workspace)
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
