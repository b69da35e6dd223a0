"""Adding good pictures to a fitted model, without its earlier training pictures: the part that all methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import numpy as np

from deploy.calibration import FALSE_ALARM, Calibration, check_rate, levels_of
from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.runtime.stages import Stages

from ..graph.compiled import compile_feature_scoring
from .data import data_of, joined_data
from .detector import OnBad
from .tiling import most_parts, run_parts

if TYPE_CHECKING:
    from .method import AnomalyMethod

COMPARED = 16
"""Largest number of new pictures that are scored both by the model before the update and by the model after it."""
Levels = tuple[float, float, float]
"""The result of `levels_of`: image score, map maximum and map median."""


def update_model(
    model: AnomalyMethod,
    pictures: list[Picture],
    batch_size: int,
    workers: int | None,
    on_bad: OnBad | None,
    log: Callable[[str], None],
    false_alarm: float | None,
    max_size: int | None,
) -> None:
    """Add pictures to the model and its calibration, see `AnomalyMethod.update`.

    Pictures that the model was fitted on already are left out. A second copy of a picture would remain in the
    statistics when the first one is held out.

    The new pictures get held-out scores of the updated model, as in a fit on all pictures. The scores of the earlier
    pictures come from a model of fewer pictures, which gives good pictures higher scores, and these pictures are not
    available any more to be scored again. If all pictures come from one source, a new picture scored by the earlier
    model is exchangeable with them. So some new pictures are scored by the model before and after the update, and the
    earlier scores are multiplied by the median ratio of the two (after / before).
    """
    earlier = model.calibration.own or model.calibration
    rate = earlier.false_alarm or FALSE_ALARM if false_alarm is None else false_alarm
    check_rate(rate)
    model.stages = Stages()
    model.start_update(most_parts(pictures, model.preprocess), max_size)
    compared = _Compared(-(-len(pictures) // COMPARED))
    known = frozenset(model.data.get("fingerprints", ()))
    unread: list[str] = []

    def skip(name: str, error: UserError) -> None:
        unread.append(name)
        on_bad(name, error)

    seen = model.add_features(pictures, batch_size, workers, skip if on_bad else None, known, compared.look)
    if not seen:
        raise UserError(f"none of the {len(pictures)} pictures is new to the model: there is nothing to add")
    again = len(pictures) - len(unread) - len(seen)
    log(
        f"features: {len(seen)} new pictures"
        + (f"; {again} that the model holds already are left out" if again else "")
    )
    model.shard, model.at_once = range(len(seen)), model.held_out(model.data["pictures"] + len(seen))
    before = compared.score(model)
    model.make_statistics()
    log(model.describe())
    after = [levels_of(*answer) for answer in model.score_held_out()]
    pairs = list(zip(before, after[:: compared.step]))
    usual = [pair for pair in pairs if pair[0][0] <= earlier.image_threshold]
    log(f"{len(pairs) - len(usual)} of {len(pairs)} new pictures looked at were above the threshold so far")
    new = Calibration.from_levels(after, rate).with_brightness(model.brightness)
    model.calibration = new.joined(earlier, _factors(usual))
    model.tell_levels([levels[0] for levels in after], log)
    model.data = joined_data(model.data, data_of(seen, model.tiling.tiles))
    model.describe_fit()


class _Compared:
    """Keeps the features of every `step`-th new picture, to be scored by the model before the update."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._features: dict[int, list[np.ndarray]] = {}

    def look(self, features: np.ndarray, numbers: list[int]) -> None:
        """Keep the features of every `step`-th picture; `numbers` has the number of each part's picture."""
        for number, rows in zip(numbers, features.reshape(len(numbers), -1, features.shape[-1])):
            if number % self.step == 0:
                self._features.setdefault(number, []).append(rows.copy())

    def score(self, model: AnomalyMethod) -> list[Levels]:
        """Levels of the kept pictures, scored with the model's present statistics."""
        scoring = compile_feature_scoring(model, model.runtime)
        scoring.set(model.fitted)
        found = []
        for number, parts in self._features.items():
            answers = run_parts(scoring, np.concatenate(parts), len(parts[0]))
            found += [levels_of(*one) for one in model.tiling.join(range(number, number + 1), *answers)]
        return found


def _factors(pairs: list[tuple[Levels, Levels]]) -> Levels:
    """Median ratio after / before of each level, over the pairs (before, after); 1 if there is nothing to compare."""
    before, after = np.array(pairs).reshape(-1, 2, 3).swapaxes(0, 1)
    usable = (before > 0).all(axis=1)
    if not usable.any():
        return 1.0, 1.0, 1.0
    return tuple(np.median(after[usable] / before[usable], axis=0).tolist())
