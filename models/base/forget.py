"""Taking pictures out of a fitted model that turned out to be defective: the part that all methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import numpy as np

from deploy.calibration import levels_of
from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.stream import picture_name

from ..graph.compiled import compile_embedding, compile_feature_scoring
from ..threads import one_thread
from .data import DIGITS, data_without, fingerprint_of
from .tiling import Tiling, run_parts

if TYPE_CHECKING:
    from .method import AnomalyMethod


@one_thread  # as in fitting: with several threads, a pixel of the resized picture may differ by one grey level
def forget_pictures(model: AnomalyMethod, pictures: list[Picture], log: Callable[[str], None]) -> None:
    """Take pictures out of the model and its calibration, see `AnomalyMethod.forget`.

    The calibration does not record which picture each score belongs to. So for each picture the stored score is removed
    that is nearest to its score by the changed model. Both are scores by a model without the picture.
    """
    known = model.data.get("fingerprints")
    if known is None:
        raise UserError("--forget: the model is of an older version, which noted no pictures: train it again")
    crops: dict[int, np.ndarray] = {}
    for index, picture in enumerate(pictures):
        crop = model.preprocess.crop(model.preprocess.resized(picture))
        mark, name = fingerprint_of(crop)[:DIGITS], picture_name(picture, index)
        if mark not in known:
            raise UserError(f"--forget {name}: it is none of the model's pictures: give the file that was trained on")
        crops.update((number, crop) for number, of in enumerate(known) if of == mark)  # its exact copies too
    embedding, tiling = compile_embedding(model, model.runtime), Tiling(model.preprocess)
    features: list[np.ndarray] = []
    for crop in crops.values():
        tiling.add([crop])
        parts = model.preprocess.parts(crop)
        features += [embedding.run(model.preprocess.normalise(part[None]))[0] for part in parts]
    numbers, rows = list(crops), len(features[0])
    together = np.concatenate(features)
    model.load_statistics(model.without(numbers, together.reshape(len(features), -1, together.shape[-1])))
    log(f"forgotten: {len(numbers)} pictures; {model.describe()}")
    scoring = compile_feature_scoring(model, model.runtime)
    scoring.set(model.fitted)
    answers = tiling.join(range(len(numbers)), *run_parts(scoring, together, rows))
    brightness = [float(crop.mean()) for crop in crops.values()]
    model.calibration = model.calibration.without([levels_of(*one) for one in answers], brightness)
    model.data = data_without(model.data, numbers)
    model.describe_fit()
