"""Decides which kinds of augmented copies help, by the scores of held-out good pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import numpy as np

from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.stream import batches, stream
from deploy.runtime.stages import Stages

from ..graph.compiled import compile_scoring
from .fitting import fit_features

if TYPE_CHECKING:
    from .detector import OnBad
    from .method import AnomalyMethod

TOP = 0.01  # share of a map's pixels, the largest, whose mean is compared
CHECKED = 64
"""Largest number of pictures used for the decision; each half is scored by models fitted on the other half."""
LEAST_PICTURES = 8
LEAST_GAIN = 0.02
"""Scores must fall by at least this share; a smaller gain is not worth the time that copies take."""
ERRORS = 2.0
"""The mean change must differ from no change by at least ERRORS standard errors."""


class Change(NamedTuple):
    """Change of held-out good pictures' levels by copies: mean of log(with / without), and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray) -> Change:
        """Compute it from the levels [pictures] without copies and with them."""
        logs = np.log(after / before)
        return cls(float(logs.mean()), float(logs.std(ddof=1) / len(logs) ** 0.5))

    @property
    def helps(self) -> bool:
        """Whether the level falls by more than LEAST_GAIN, and by more than ERRORS standard errors."""
        return self.mean < -LEAST_GAIN and self.mean + ERRORS * self.error < 0

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} % (error {100 * self.error:.1f})"


def choose_copies(
    members: Sequence[AnomalyMethod],
    pictures: Sequence[Picture],
    batch_size: int,
    workers: int | None,
    on_bad: OnBad | None,
    log: Callable[[str], None],
    stages: Stages,
) -> dict[str, Any]:
    """Decide which kinds of copies of training pictures the members use; return the header's entry about it.

    The first member is fitted on each half of the pictures, without copies and with each kind of copies. A kind is kept
    if good pictures of the other half (without copies) then get clearly lower scores.

    Raises:
        UserError: too few pictures for the decision.
    """
    first, begin = members[0], time.perf_counter()
    asked, kept, changes = first.augment.asked, first.augment.asked, {}
    if asked and not first.augment.forced:
        if len(pictures) < LEAST_PICTURES:
            raise UserError(
                f"--augment: {len(pictures)} good pictures cannot tell which copies help, {LEAST_PICTURES} could: "
                "give --augment_force to use all"
            )
        changes = _changes(first, pictures, batch_size, workers, on_bad)
        kept = tuple(kind for kind, change in changes.items() if change.helps)
        for kind, change in changes.items():
            log(f"{kind}: held-out good pictures score {change}: {'kept' if kind in kept else 'left out'}")
        stages.add("copies", time.perf_counter() - begin)
    for member in members:
        member.copied = kept
    told = {kind: {"change": change.mean, "error": change.error} for kind, change in changes.items()}
    return {"copies": {"kept": list(kept), "changes": told}} if asked else {}


def _changes(
    model: AnomalyMethod, pictures: Sequence[Picture], batch_size: int, workers: int | None, on_bad: OnBad | None
) -> dict[str, Change]:
    """For each kind of copies asked for, how it changes the levels of pictures that the model was not fitted on."""
    drawn = np.random.default_rng(model.seed).permutation(len(pictures))[:CHECKED]
    halves = [[pictures[number] for number in sorted(drawn[start::2])] for start in (0, 1)]
    skip = None if on_bad is None else lambda name, error: None  # reported when the model itself is fitted
    levels: dict[str | None, list[np.ndarray]] = {}
    stages, model.stages = model.stages, Stages()
    for own, others in (halves, halves[::-1]):
        for kind in (None, *model.augment.asked):
            model.copied = () if kind is None else (kind,)
            fit_features(model, own, batch_size, workers, skip)
            model.make_statistics()
            model.end_fit()
            levels.setdefault(kind, []).append(_levels(model, others, batch_size, workers, skip))
    model.stages = stages
    before, *after = (np.concatenate(found) for found in levels.values())
    return {kind: Change.of(before, found) for kind, found in zip(model.augment.asked, after)}


def _levels(
    model: AnomalyMethod, pictures: Sequence[Picture], batch_size: int, workers: int | None, on_bad: OnBad | None
) -> np.ndarray:
    """Level of each picture: mean of the largest 1 % of its map, in units that fits of one method share.

    Returns float64 [pictures], above 0.
    """
    program, preprocess = compile_scoring(model, model.runtime), model.preprocess
    program.set(model.fitted)
    found = []
    for item in stream(pictures, preprocess, workers, on_bad):
        crop = preprocess.crop(item.resized)
        maps = [program.run(preprocess.normalise(np.stack(s)))[0] for s in batches(preprocess.parts(crop), batch_size)]
        values = preprocess.join(np.concatenate(maps), *crop.shape[:2]).ravel()
        count = max(1, round(TOP * values.size))
        found.append(np.partition(values, -count)[-count:].mean(dtype=np.float64))
    return np.maximum(found, 1e-12) * model.unit()
