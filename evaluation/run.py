"""Evaluation of a fitted model on the test pictures of a category; used by train.py and eval.py."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from datasets.readers import Category, LabelledPicture, read_mask
from datasets.readers.labelled import picture_digests
from datasets.readers.survey import test_overview
from deploy.calibration import Calibration
from deploy.command_line.parser import ALL, NONE, WRONG, Arguments
from deploy.command_line.progress import progress
from deploy.drift import Drift
from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import prefetch
from deploy.predictor import Prediction, Predictor
from deploy.results.regions import Region
from deploy.results.tables import ScoreSheet, picture_namer
from deploy.runtime.stages import Stages
from deploy.storage.files import fitting_path

from .contact import ContactSheet
from .report import Figures, compute_figures

NAMED_REGIONS = 5
"""Number of a picture's regions, those with the largest map values, that are kept for the report."""


class Model(Protocol):
    """The interface of a fitted model that evaluation uses."""

    calibration: Calibration
    preprocess: Preprocess
    header: dict[str, Any]
    stages: Stages
    """Times of fitting; empty if the model was read from a file."""

    def predict(self, pictures: Sequence[Path], batch_size: int, workers: int | None) -> Iterable[Prediction]:
        """Yield predictions in order."""

    def predictor(self) -> Predictor:
        """Return the predictor, which has the times of its stages."""


class Wanted(NamedTuple):
    """Settings of what is computed and written for a category."""

    batch_size: int = 1
    """Pictures per run of the program."""
    workers: int | None = None
    """Decoding threads; None: one per core."""
    pro: bool = False
    """Whether AU-PRO is computed."""
    heat_maps: str = ALL
    """One of `deploy.command_line.parser.PICTURES`."""
    masks: bool = False
    maps: bool = False
    regions: float | None = None
    """As in `ScoreSheet`, like `masks` and `maps`."""
    false_alarm: float | None = None
    """False alarm rate to use instead of the model's own."""
    watch_drift: bool = False
    """Print whether the good pictures look as the training pictures did."""

    @classmethod
    def of(cls, args: Arguments, **more: Any) -> Wanted:
        """Make the settings from the options of train.py and eval.py; --report needs AU-PRO and regions too.

        `more` are the settings from options that eval.py alone has.
        """
        regions = args.min_area if args.save_regions or args.report else None
        pro = args.eval_PRO or args.report is not None
        pictures = args.save_pic, args.save_mask, args.save_map, regions
        return cls(args.test_batch_size, args.num_workers, pro, *pictures, **more)


@dataclass(frozen=True)
class Shown:
    """A test picture and its result, without its map."""

    path: Path
    kind: str
    """`good`, or the kind of defect."""
    defective: bool
    score: float
    called: bool
    """Whether it was called defective."""
    heat_map: Path | None
    """Path of its heat map, if one was drawn."""
    regions: Sequence[Region] = ()
    """The regions with the largest map values, at most NAMED_REGIONS."""
    region_count: int = 0
    """Number of all its regions."""

    @property
    def wrong(self) -> bool:
        """Whether it is a miss or a false alarm."""
        return self.called != self.defective

    @property
    def verdict(self) -> str:
        """`missed` or `found` for a defective picture, `alarm` or `passed` for a good one."""
        return ("missed", "found")[self.called] if self.defective else ("passed", "alarm")[self.called]


@dataclass(frozen=True)
class Outcome:
    """All results of the evaluation of a category, for reports and logs."""

    name: str
    figures: Figures
    levels: Calibration
    """The levels in use."""
    pictures: list[Shown]
    seconds: dict[str, float]
    """Times of `read` (the sum over all threads), `search` (features and search, which are one program), `metrics` and
    `total`; empty if they are not known."""
    contact_sheet: Path | None = None
    """Path of the contact sheet, if heat maps were drawn."""

    @property
    def row(self) -> dict[str, Any]:
        """The row for the table of the run."""
        return {"category": self.name, **self.figures.row}


def evaluate_category(
    model: Model, category: Category, folder: Path, provenance: dict[str, Any], wanted: Wanted
) -> Outcome:
    """Evaluate one category.

    Writes `folder/eval.csv` and, if `wanted`, `folder/heatmaps/`, `contact_sheet.png`, `masks/`, `maps/`, and the files
    of regions. `provenance` is the result of `provenance_columns`.

    Raises:
        UserError: there are no test pictures, or one cannot be read.
    """
    begin, stages = time.perf_counter(), Stages()
    pictures, levels = category.test_pictures(), model.calibration.at(false_alarm=wanted.false_alarm)
    paths = [picture.path for picture in pictures]
    print(test_overview(pictures), flush=True)
    contact = ContactSheet({str(picture.path): picture.defect for picture in pictures}, levels)
    sheet = ScoreSheet(
        folder,
        "eval",
        levels,
        model.preprocess,
        provenance,
        wanted.heat_maps != NONE,
        wanted.masks,
        extra=("kind",),
        regions=wanted.regions,
        maps=wanted.maps,
        drawn=contact.add,
    )
    name = picture_namer(paths)
    found, masks, shown = [], [], []
    times = model.predictor().times.of
    before = {stage: len(seconds) for stage, seconds in times.items()}
    predictions = progress(model.predict(paths, wanted.batch_size, wanted.workers), len(paths), f"test {category.name}")

    def read(pair: tuple[Prediction, LabelledPicture]) -> np.ndarray | None:
        return read_mask(pair[1], model.preprocess, pair[0].shape)

    with sheet:
        for (prediction, picture), truth in prefetch(read, zip(predictions, pictures), wanted.workers):
            mask, called = truth(), bool(levels.is_defect(prediction.score))
            outline = mask if mask is not None and mask.any() else None
            drawn = wanted.heat_maps == ALL or (wanted.heat_maps == WRONG and called != picture.defective)
            regions = sheet.add(prediction, name(prediction.name), outline, (picture.defect,), drawn)
            place = fitting_path(folder / "heatmaps", f"{name(prediction.name)}.png") if drawn else None
            verdict = picture.defect, picture.defective, prediction.score, called
            shown.append(Shown(picture.path, *verdict, place, regions[:NAMED_REGIONS], len(regions)))
            found.append(prediction)
            masks.append(mask)
        sheet.finish()
    contact_sheet = contact.write(folder)
    for stage, what in {"preprocess": "read", "inference": "search"}.items():
        stages.add(what, sum(times[stage][before[stage] :]))
    told = mask_note([mask for mask, picture in zip(masks, pictures) if picture.defective])
    if told:
        print(told, flush=True)
    if wanted.watch_drift:
        drift = Drift(levels.scores, levels.brightness)
        for prediction, picture in zip(found, pictures):
            if not picture.defective:
                drift.add(prediction.score, prediction.brightness)
        print(drift, flush=True)
    known = set((levels.labelled or {}).get("pictures", ()))
    again = sum(digest in known for digest in picture_digests(paths)) if known else 0
    if again:
        print(f"note: {again} of these {len(paths)} pictures set the threshold, so its decisions look too good")
    with stages.timed("metrics"):
        figures = compute_figures(found, [picture.defective for picture in pictures], masks, levels, wanted.pro)
    stages.add("total", time.perf_counter() - begin)
    return Outcome(category.name, figures, levels, shown, stages.seconds, contact_sheet)


def mask_note(masks: Sequence[np.ndarray | None]) -> str:
    """Return a line if masks of defective pictures are empty, or some are missing and others are not; else no text."""
    missing = sum(mask is None for mask in masks)
    empty = sum(mask is not None and not mask.any() for mask in masks)
    if not empty and missing in (0, len(masks)):
        return ""
    return (
        f"note: {missing} of {len(masks)} defective pictures have no mask (not in pixel figures), {empty} an empty "
        "one, black or outside of the crop (all good there)"
    )
