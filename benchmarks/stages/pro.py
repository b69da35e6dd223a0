"""AU-PRO with every value as a threshold, compared with the usual five hundred thresholds."""

from __future__ import annotations

import numpy as np

from datasets.readers import read_mask
from evaluation.aupro import PRO_LIMIT, aupro

from ..report import Stage
from ..subject import Subject
from ..threshold_pro import threshold_pro
from ..timing import in_turns

OURS, SORT = "AU-PRO, exact", "np.sort of the same maps"
STEPS, ANEW = (
    "AU-PRO, 500 thresholds",
    "AU-PRO, 500 thresholds, regions found by scikit-image at each, as commonly written",
)


def run(subject: Subject) -> Stage:
    """Measure both on PatchCore's maps of the test pictures whose masks are known."""
    program = subject.scorer("patchcore", subject.category)
    pairs = zip(subject.test_images(subject.category), subject.category.test_pictures())
    found = [(program.run(image)[0][0], read_mask(picture, subject.preprocess)) for image, picture in pairs]
    maps, masks = map(np.stack, zip(*((anomaly_map, mask) for anomaly_map, mask in found if mask is not None)))
    stage = Stage(
        "pro", f"AU-PRO up to {PRO_LIMIT}, {len(maps)} maps of {maps[0].shape[0]} x {maps[0].shape[1]}", "run"
    )
    values: dict[str, float] = {}

    def ours() -> None:
        values[OURS] = aupro(maps, masks)[0]

    def stepped(name: str) -> None:
        values[name] = threshold_pro(maps, masks, PRO_LIMIT, anew=name == ANEW)

    calls = {OURS: ours, STEPS: lambda: stepped(STEPS), SORT: lambda: np.sort(maps, axis=None)}
    times = in_turns(calls, subject.few, warm=False)
    stage.add({**times, **in_turns({ANEW: lambda: stepped(ANEW)}, 1, warm=False)})
    stage.compare(OURS, ANEW, STEPS, SORT)
    stage.notes.append(f"exact {values[OURS]:.6f}, 500 thresholds {values[STEPS]:.6f} and {values[ANEW]:.6f}")
    return stage
