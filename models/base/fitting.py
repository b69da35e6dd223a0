"""Fitting a method on pictures: each of several processes has some of them, and what one has computed stays there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.stream import stream

from .augment import copies_each
from .tiling import most_parts

if TYPE_CHECKING:
    from .detector import OnBad
    from .method import AnomalyMethod


def fit_features(
    model: AnomalyMethod, pictures: list[Picture], batch_size: int, workers: int | None, on_bad: OnBad | None
) -> list[str]:
    """Start fitting and call `partial_fit` on this process's share of the pictures; return all crops' fingerprints.

    Shares are whole batches, of features as of pictures that are held out, so that each run of a program is one that a
    single process would do as well.
    """
    group = model.group
    if group.size > 1:
        if model.preprocess.tiled or model.augment.asked:
            option = "--tile" if model.preprocess.tiled else "--augment"
            raise UserError(f"{option}: one process fits such a category: start as many as categories, or fewer")
        pictures = _readable(model, pictures, workers, on_bad)
    _check_enough(len(pictures))
    model.shard = group.shard(len(pictures), math.lcm(batch_size, model.HELD_OUT))
    model.start_fit(most_parts(pictures, model.preprocess) * (1 + copies_each(model.copied, model.preprocess)))
    own = pictures[model.shard.start : model.shard.stop]
    seen = model.add_features(own, batch_size, workers, on_bad)
    seen, model.names = group.joined(seen), group.joined(model.names)
    model.brightness = group.joined(model.brightness)
    _check_enough(len(seen))
    if group.size == 1:
        model.shard = range(len(seen))  # fewer where some were skipped
    return seen


def _readable(
    model: AnomalyMethod, pictures: list[Picture], workers: int | None, on_bad: OnBad | None
) -> list[Picture]:
    """Those that can be read: which ones share a batch depends on it, so all must know before the first one."""
    if on_bad is None:
        return pictures
    here, bad = model.group.shard(len(pictures), 1), []

    def skip(name: str, error: UserError) -> None:
        bad.append(name)
        on_bad(name, error)

    for _ in stream(pictures[here.start : here.stop], model.preprocess, workers, skip):
        pass
    left_out = set(model.group.joined(bad))
    return [picture for picture in pictures if str(picture) not in left_out]


def _check_enough(pictures: int) -> None:
    """Raise UserError for fewer pictures than fitting needs."""
    if pictures < 2:
        raise UserError(f"fitting needs at least two good pictures, got {pictures}")
