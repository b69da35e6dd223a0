"""Whole PatchCore fits, as in `train.py`, compared with decoding and features alone."""

from __future__ import annotations

from collections import deque
from typing import Any

from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import stream
from models.graph.compiled import compile_embedding
from models.presets import DEFAULT, preset

from ..report import Stage
from ..subject import BATCH, Subject
from ..timing import in_turns, spread

PERCENT = 1.0


def run(subject: Subject) -> Stage:
    """Measure fits on the training pictures of each set; imports are not counted.

    With a crop of the short side and a bank of PERCENT, and once with the default preset.
    """
    preprocess, default = Preprocess(subject.preprocess.resize, subject.preprocess.resize), preset("patchcore")
    own = {"layers": default.layers, **default.options}
    settings: dict[str, tuple[int, dict[str, Any]]] = {
        f"crop {preprocess.crop_size}, {PERCENT:g} %": (subject.few, {"k": PERCENT, "preprocess": preprocess}),
        f"preset {DEFAULT}": (1, {"k": default.k, "preprocess": default.preprocess, **own}),
    }
    title = "features of all pictures, coreset, calibration"
    stage, worst = Stage("fit", title, "fit"), {}
    for category in subject.categories:
        pictures = category.train_pictures()
        for told, (rounds, setting) in settings.items():

            def features(pictures: list = pictures, setting: dict = setting) -> None:
                model = subject.build("patchcore", **setting)
                embedding = compile_embedding(model, subject.runtime)
                deque(subject.embedded(embedding, stream(pictures, model.preprocess), model.preprocess), 0)

            def fit(pictures: list = pictures, setting: dict = setting) -> None:
                subject.build("patchcore", **setting).fit(pictures, BATCH)

            name = f"{category.name}, {len(pictures)} pictures, {told}: "
            whole, part = f"{name}whole fit", f"{name}decode and features"
            fit(pictures[:3])  # lets numba compile before the measurement
            stage.add(in_turns({whole: fit, part: features}, rounds, warm=False))
            stage.compare(whole, part)
            worst.setdefault(told, []).append((1 / spread(stage.quotients[-1][2])[0], category.name))
    found = [f"{max(times)[0]:.3g} times ({told}, on {max(times)[1]})" for told, times in worst.items()]
    stage.summary = f"whole fit, compared with decode and features at worst: {', '.join(found)}"
    return stage
