"""Which copies of the training pictures help, said by good pictures that are held out."""

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
from ..graph.scores import TOP
from .fitting import fit_features

if TYPE_CHECKING:
    from .detector import OnBad
    from .method import AnomalyMethod

CHECKED = 64
"""Pictures, at most, that are asked: each half is scored by models of the other."""
LEAST_PICTURES = 8
LEAST_GAIN = 0.02
"""Scores must fall by this share at least, or it is not worth what copies cost."""
ERRORS = 2.0
"""So many standard errors away from no change is no accident."""


class Change(NamedTuple):
    """What copies do to the level of held-out good pictures: the mean of log(with / without), and its error."""

    mean: float
    error: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray) -> Change:
        """From the levels [pictures] without and with copies."""
        logs = np.log(after / before)
        return cls(float(logs.mean()), float(logs.std(ddof=1) / len(logs) ** 0.5))

    @property
    def helps(self) -> bool:
        """Whether the level falls, by enough and not by chance."""
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
    """Set which copies of training pictures the members enter; return what the header says of it.

    The first member is asked, by models of half the pictures, without copies and with each kind: a kind is kept if
    good pictures of the other half, as they are, then look clearly less strange.

    Raises:
        UserError: too few pictures to ask.
    """
    first, begin = members[0], time.perf_counter()
    asked, kept, changes = first.augment.asked, first.augment.asked, {}
    if asked and not first.augment.forced:
        if len(pictures) < LEAST_PICTURES:
            raise UserError(
                f"--augment: {len(pictures)} good pictures cannot tell which copies help, {LEAST_PICTURES} could: "
                "give --augment_force to enter all"
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
    """What each kind that is asked for does to pictures which the model was not fitted on."""
    drawn = np.random.default_rng(model.seed).permutation(len(pictures))[:CHECKED]
    halves = [[pictures[number] for number in sorted(drawn[start::2])] for start in (0, 1)]
    skip = None if on_bad is None else lambda name, error: None  # told when the model itself is fitted
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
    """The mean of the largest 1 % of each picture's map, in units that fits of one method share: float64 [pictures]."""
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
