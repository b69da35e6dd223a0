"""Adding good pictures to a fitted model without those that it was fitted on: what is the same for every method."""

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
"""New pictures, at most, that are scored by the model before the update and after it."""
Levels = tuple[float, float, float]
"""What `levels_of` gives: image score, map maximum and map median."""


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
    """Do what `AnomalyMethod.update` says.

    Pictures that the model was fitted on are left out: held out from the statistics, their copy would stay in.

    The new pictures' scores are held-out ones of the updated model, as in a fit on all. Those of the earlier pictures
    were taken by a smaller model, which finds good pictures stranger, and the pictures to score again are not there. A
    new picture scored by the earlier model is exchangeable with them where all pictures come from one source, so the
    median ratio of what some new pictures score after the update and before tells what it does to a score, and the
    earlier ones are multiplied by it.
    """
    earlier = model.calibration.own or model.calibration
    rate = false_alarm or earlier.false_alarm or FALSE_ALARM
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
    model.shard = range(len(seen))
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
    """Every `step`-th new picture's features, kept until the model before the update has scored them."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._features: dict[int, list[np.ndarray]] = {}

    def look(self, features: np.ndarray, numbers: list[int]) -> None:
        """Keep the features of some pictures; `numbers` tell which picture each part is of."""
        for number, rows in zip(numbers, features.reshape(len(numbers), -1, features.shape[-1])):
            if number % self.step == 0:
                self._features.setdefault(number, []).append(rows.copy())

    def score(self, model: AnomalyMethod) -> list[Levels]:
        """Scores of the pictures that were kept, by the statistics that the model has now."""
        scoring = compile_feature_scoring(model, model.runtime)
        scoring.set(model.fitted)
        found = []
        for number, parts in self._features.items():
            answers = run_parts(scoring, np.concatenate(parts), len(parts[0]))
            found += [levels_of(*one) for one in model.tiling.join(range(number, number + 1), *answers)]
        return found


def _factors(pairs: list[tuple[Levels, Levels]]) -> Levels:
    """The median ratio of after and before, of each level; 1 where there is nothing to compare."""
    before, after = np.array(pairs).reshape(-1, 2, 3).swapaxes(0, 1)
    usable = (before > 0).all(axis=1)
    if not usable.any():
        return 1.0, 1.0, 1.0
    return tuple(np.median(after[usable] / before[usable], axis=0).tolist())
