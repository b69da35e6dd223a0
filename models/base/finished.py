"""Checks whether a model file is finished already, so that a stopped run can continue where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.stream import stream
from deploy.storage.tensors import read_header, read_tensors

from ..threads import one_thread
from .data import data_of, fingerprint_of
from .detector import Detector, OnBad, is_backbone
from .tiling import Tiling


@one_thread  # as in fitting: with several threads, a pixel of the resized picture may differ by one grey level
def is_finished(
    model: Detector,
    path: Path,
    pictures: list[Picture],
    workers: int | None,
    on_bad: OnBad | None,
    false_alarm: float,
) -> bool:
    """Whether fitting `model` on `pictures` would write the file at `path` again, except for the recorded command.

    This is so if the file and its backbones are undamaged; settings, seed, backbone, versions and false alarm rate are
    the same; neither thresholds nor pictures were changed after the fit; and the pictures are the same after resizing
    and cropping. The pictures are decoded only if everything else is the same.
    """
    try:
        tensors, header = read_tensors(path, "model")
    except UserError:
        return False
    if not all(is_backbone(path.parent / backbone.file) for backbone in model.backbones()):
        return False
    # None: a header says nothing of copies that were not asked for
    wanted = json.loads(json.dumps({"augment": None, **model.settings(), "data": header["data"]}))
    levels = header["calibration"]
    if {name: header.get(name) for name in wanted} != wanted or levels["false_alarm"] != false_alarm:
        return False
    if levels.get("labelled") is not None:
        return False
    if not all(np.array_equal(tensors.get(name), value.numpy()) for name, value in model.constants().items()):
        return False  # fitted with another --load_projection
    seen = stream(pictures, model.preprocess, workers, on_bad)
    marks, tiling = [], Tiling(model.preprocess)
    for item in seen:
        crop = model.preprocess.crop(item.resized)
        marks.append(fingerprint_of(crop))
        tiling.add([crop])
    return header["data"] == data_of(marks, tiling.tiles)


def changed_since_fit(path: Path) -> str:
    """Describe in words what was changed in the model at `path` after it was fitted; empty if nothing, or no model."""
    try:
        header = read_header(path, "model")
    except UserError:
        return ""
    data, found = header["data"], []
    if "parts" in data or "forgotten" in data:
        found.append("the pictures that --update added or took out")
    if header["calibration"].get("labelled") is not None:
        found.append("the threshold that labelled pictures set")
    return " and ".join(found)
