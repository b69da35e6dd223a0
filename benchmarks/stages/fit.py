"""Whole PatchCore fits, as in `train.py`, compared with decoding and features alone."""

from __future__ import annotations

from collections import deque

from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import stream
from models.graph.compiled import compile_embedding

from ..report import Stage
from ..subject import BATCH, Subject
from ..timing import in_turns, spread

PERCENT = 1.0


def run(subject: Subject) -> Stage:
    """Measure fits on the training pictures of each set, with a crop of the short side; imports are not counted."""
    preprocess = Preprocess(subject.preprocess.resize, subject.preprocess.resize)
    title = f"crop {preprocess.crop_size}, a bank of {PERCENT:g} %: features of all pictures, coreset, calibration"
    stage, worst = Stage("fit", title, "fit"), []
    for category in subject.categories:
        pictures = category.train_pictures()

        def features(pictures: list = pictures) -> None:
            model = subject.build("patchcore", k=PERCENT, preprocess=preprocess)
            embedding = compile_embedding(model, subject.runtime)
            deque(subject.embedded(embedding, stream(pictures, preprocess), preprocess), 0)

        def fit(pictures: list = pictures) -> None:
            subject.build("patchcore", k=PERCENT, preprocess=preprocess).fit(pictures, BATCH)

        name = f"{category.name}, {len(pictures)} pictures: "
        whole, part = f"{name}whole fit", f"{name}decode and features"
        fit(pictures[:3])  # lets numba compile before the measurement
        stage.add(in_turns({whole: fit, part: features}, subject.few, warm=False))
        stage.compare(whole, part)
        worst.append((1 / spread(stage.quotients[-1][2])[0], category.name))
    times, name = max(worst)
    stage.summary = f"whole fit: {times:.3g} times decode and features at worst, on {name}"
    return stage
