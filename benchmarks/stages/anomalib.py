"""Whole fits and predictions from files, compared with anomalib's, if it is installed."""

from __future__ import annotations

from pathlib import Path

from deploy.pictures.preprocess import height_width
from deploy.storage.files import scratch_folder
from evaluation.ranking import rank

from ..anomalib_runs import Anomalib
from ..engines import missing
from ..report import Stage
from ..subject import BATCH, METHODS, Subject
from ..timing import in_turns

FIT, THEIR_FIT = "our fit, calibration included", "anomalib's fit"
PREDICT, THEIR_PREDICT = "our predict", "anomalib's predict"


def run(subject: Subject) -> Stage:
    """Measure one round of fits, since anomalib's takes many minutes, and predictions of all test pictures in turns."""
    category, tests = subject.category, subject.category.test_pictures()
    pictures, paths = category.train_pictures(), [picture.path for picture in tests]
    stage = Stage("anomalib", f"PatchCore from files: fit on {len(pictures)}, predict {len(paths)}", "picture")
    ours = subject.build("patchcore")
    calls = {FIT: lambda: ours.fit(pictures, BATCH)}
    predictions = {PREDICT: lambda: list(ours.predict(paths))}
    why = missing("anomalib")
    if subject.arch != "resnet18":
        why = why or f"{subject.arch} is not among its backbones: give --weights of ResNet-18"
    with scratch_folder() as scratch:
        if why:
            stage.skip(THEIR_FIT, why)
        else:
            sizes = [height_width(size) for size in (subject.preprocess.resize, subject.preprocess.crop_size)]
            ratio = METHODS["patchcore"][1] / 100
            theirs = Anomalib(subject, "Patchcore", scratch, subject.seed, *sizes, coreset_sampling_ratio=ratio)
            calls[THEIR_FIT] = lambda: theirs.fit(category)
            predictions[THEIR_PREDICT] = lambda: theirs.predict(category)
        fits = in_turns(calls, 1, warm=False)
        times = in_turns(predictions, subject.few)
        stage.add({name: [value / len(pictures) for value in values] for name, values in fits.items()})
        stage.add({name: [value / len(paths) for value in values] for name, values in times.items()})
        stage.compare(FIT, THEIR_FIT)
        stage.compare(PREDICT, THEIR_PREDICT)
        found = {"ours": {str(Path(p.name).resolve()): p.score for p in predictions[PREDICT]()}}
        if not why:
            found["anomalib"] = theirs.predict(category)
            theirs.close()
    for name, scores in found.items():
        bad, good = ([scores[str(p.path.resolve())] for p in tests if p.defective is kind] for kind in (True, False))
        stage.figures.append({"contestant": name, "image AUROC": rank(bad, good).auroc})
    return stage
