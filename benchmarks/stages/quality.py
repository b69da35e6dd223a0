"""Quality of the presets of every method over seeds, beside anomalib with the same pictures and weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import options
from datasets.readers import Category, read_mask
from deploy.pictures.preprocess import Preprocess
from deploy.storage.files import scratch_folder
from evaluation.aupro import aupro
from evaluation.ranking import rank
from evaluation.report import rank_pixels
from models import build_model
from models.presets import DEFAULT, PRESETS, preset

from ..anomalib_runs import Anomalib
from ..engines import missing
from ..report import Stage
from ..subject import BATCH, Subject

SIDE = 256
CENTRE = 224


class Theirs(NamedTuple):
    """A model of anomalib, with anomalib's default sizes."""

    name: str
    centre: int | None
    """Side of the centre of the SIDE x SIDE pixels that it examines; None examines all."""
    arguments: dict[str, Any]

    def title(self) -> str:
        """The contestant's name in the table."""
        given = "".join(f", {name} {value}" for name, value in self.arguments.items())
        return f"anomalib {self.name}{given}"


# anomalib's default ratio is 0.1, with which its coreset takes more than an hour on some sets
THEIRS = {
    "patchcore": Theirs("Patchcore", CENTRE, {"coreset_sampling_ratio": 0.01}),
    "padim": Theirs("Padim", None, {}),
}
"""anomalib's models by our names of the methods."""
TIMED = 20
"""Number of test pictures that are scored one at a time to measure the time of a program."""


class Found(NamedTuple):
    """Figures of one model; the first three are 0 to 1."""

    image: float | None
    pixel: float | None
    pro: float | None
    fit: float
    """Seconds of the fit, with reading the files."""
    predict: float
    """Seconds per test picture: for ours of the program alone, for anomalib's with reading the file."""


def run(subject: Subject) -> Stage:
    """Evaluate every set, method and preset; a row has mean and deviation over the seeds."""
    stage = Stage(
        "quality",
        f"image AUROC, pixel AUROC, AU-PRO; mean and deviation of seeds {', '.join(map(str, subject.seeds))}",
        "picture",
    )
    why = missing("anomalib")
    if subject.arch != "resnet18":
        why = why or f"{subject.arch} is not among its backbones: give --weights of ResNet-18"
    lead: list[tuple[float, str]] = []
    for category in subject.categories:
        means = {}
        for method in subject.methods:
            for name in PRESETS[method]:
                means[method, name] = _row(stage, category, f"{method}, {name}", _ours(subject, category, method, name))
            if method in THEIRS and not why:
                theirs = _row(stage, category, THEIRS[method].title(), _theirs(subject, category, method))
                ours = means[method, DEFAULT]
                lead += [(o - t, f"{category.name}, {method}") for o, t in zip(ours, theirs) if None not in (o, t)]
    if why:
        stage.skip("anomalib", why)
    if lead:
        least, where = min(lead)
        stage.summary = f"default preset: {least:+.4f} beside anomalib at worst, on {where}"
    return stage


def _ours(subject: Subject, category: Category, method: str, name: str) -> Iterator[Found]:
    pictures, found = category.train_pictures(), preset(method, name)
    preprocess = options.preset_preprocess(method, found, pictures)
    tests = category.test_pictures()
    masks = [read_mask(picture, preprocess) for picture in tests]
    for seed in subject.seeds:
        start = time.perf_counter()
        arguments = {"k": found.k, "preprocess": preprocess, "seed": seed, "runtime": subject.runtime}
        model = build_model(method, [subject.arch], [found.layers], [subject.weights], **arguments, **found.options)
        model.fit(pictures, BATCH)
        seconds = time.perf_counter() - start
        predictions = list(model.predict([picture.path for picture in tests]))
        figures = figures_of([p.score for p in predictions], [p.anomaly_map for p in predictions], masks, tests)
        yield Found(*figures, seconds, _program_seconds(model, preprocess, tests))


def _program_seconds(model: Any, preprocess: Preprocess, tests: Sequence[Any]) -> float:
    """Return the median time per test picture, scored one at a time."""
    program, times = model.predictor().program, []
    for picture in tests[:TIMED]:
        image = preprocess.normalise(preprocess.crop(preprocess.resized(picture.path))[None])
        start = time.perf_counter()
        program.run(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _theirs(subject: Subject, category: Category, method: str) -> Iterator[Found]:
    theirs = THEIRS[method]
    centre = theirs.centre
    tests = category.test_pictures()
    whole = Preprocess(SIDE, SIDE, "stretch")
    inside = Preprocess(SIDE, centre or SIDE)
    names = [str(Path(picture.path).resolve()) for picture in tests]
    masks = [read_mask(picture, whole) for picture in tests]
    masks = [None if mask is None else inside.crop(mask) for mask in masks]
    for seed in subject.seeds:
        with scratch_folder() as scratch:
            crop = centre and (centre, centre)
            model = Anomalib(subject, theirs.name, scratch, seed, (SIDE, SIDE), crop, **theirs.arguments)
            start = time.perf_counter()
            model.fit(category)
            seconds = time.perf_counter() - start
            start = time.perf_counter()
            scores = model.predict(category)
            predict = (time.perf_counter() - start) / len(tests)
            maps = dict(zip(scores, model.maps()))
            model.close()
        yield Found(*figures_of([scores[n] for n in names], [maps[n] for n in names], masks, tests), seconds, predict)


def figures_of(
    scores: Sequence[float], maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None], tests: Sequence[Any]
) -> tuple[float | None, float | None, float | None]:
    """Return image AUROC, pixel AUROC and AU-PRO; None if there is no ground truth."""
    truth, score = np.array([picture.defective for picture in tests]), np.array(scores)
    known = [number for number, mask in enumerate(masks) if mask is not None]
    maps, masks = [maps[number] for number in known], [masks[number] for number in known]
    areas = aupro(maps, masks)
    return rank(score[truth], score[~truth]).auroc, rank_pixels(maps, masks).auroc, areas and areas[0]


def _row(stage: Stage, category: Category, contestant: str, found: Iterator[Found]) -> list[float | None]:
    """Add a row, print it, and return the means of the three figures."""
    columns = list(zip(*found))
    means = [None if None in values else float(np.mean(values)) for values in columns]
    deviations = [0.0 if None in values or len(values) < 2 else float(np.std(values, ddof=1)) for values in columns]
    cells = ["" if mean is None else f"{mean:.4f} ± {dev:.4f}" for mean, dev in zip(means[:3], deviations)]
    row = {"data": category.name, "contestant": contestant}
    row |= dict(zip(("image AUROC", "pixel AUROC", "AU-PRO"), cells))
    row |= {"fit, s": means[3], "picture, ms": 1e3 * means[4]}
    stage.figures.append(row)
    print(*row.values(), flush=True)
    return means[:3]
