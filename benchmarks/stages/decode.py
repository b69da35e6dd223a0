"""Reading pictures, compared with the decoder alone, and together with features."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from deploy.pictures.stream import batches, stream
from models.graph.compiled import compile_embedding

from ..onnx_graph import backbone_gflop
from ..report import Stage
from ..subject import BATCH, Subject
from ..timing import in_turns

SOME = 20
OURS, ALONE = "decode and resize, one thread", "cv2.imdecode alone, one thread"
DECODE, FEATURES, BOTH = "all pictures: decode only", "all pictures: features only", "all pictures: decode and features"


def run(subject: Subject) -> Stage:
    """Measure seconds per training picture."""
    pictures, preprocess = subject.category.train_pictures(), subject.preprocess
    stage = Stage("decode", f"{len(pictures)} training pictures", "picture")
    cv2.setNumThreads(1)
    some = pictures[:SOME]
    encoded = [np.fromfile(path, np.uint8) for path in some]

    def decoder_alone() -> None:
        for data in encoded:
            cv2.imdecode(data, cv2.IMREAD_COLOR)

    def decode() -> None:
        for path in some:
            preprocess.resized(path)

    add(stage, in_turns({ALONE: decoder_alone, OURS: decode}, subject.rounds), len(some))
    stage.compare(OURS, ALONE)

    model = subject.build("patchcore")
    embedding = compile_embedding(model, subject.runtime)
    groups = [subject.images(group) for group in batches(stream(pictures, preprocess), BATCH)]

    def features() -> None:
        for group in groups:
            embedding.run(group)

    def both() -> None:
        deque(subject.embedded(embedding, stream(pictures, preprocess)), 0)

    calls = {DECODE: lambda: deque(stream(pictures, preprocess), 0), FEATURES: features, BOTH: both}
    work = backbone_gflop(model.backbone, preprocess.crop_size)
    add(stage, in_turns(calls, subject.few, warm=False), len(pictures), {FEATURES: work, BOTH: work})
    stage.compare(BOTH, DECODE, FEATURES)
    return stage


def add(stage: Stage, times: dict[str, list[float]], pictures: int, gflop: dict[str, float] | None = None) -> None:
    """Add times of all pictures together to the stage, as times per picture."""
    stage.add({name: [value / pictures for value in values] for name, values in times.items()}, gflop)
