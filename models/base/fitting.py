"""Features for fitting: several processes divide the pictures, and each keeps the features that it computed."""

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
    """Start fitting and call `partial_fit` on this process's share of the pictures.

    A share consists of whole batches, for the features and for leave-one-out. So each run of a program has the same
    pictures as in a single process.

    Returns:
        The fingerprints of the crops of all processes' pictures.

    Raises:
        UserError: fewer than two pictures, or several processes would have to fit tiles or augmented copies.
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
        model.shard = range(len(seen))  # fewer if some were skipped
    return seen


def _readable(
    model: AnomalyMethod, pictures: list[Picture], workers: int | None, on_bad: OnBad | None
) -> list[Picture]:
    """The pictures that can be read.

    Which pictures share a batch depends on this, so all processes must know it before the first batch.
    """
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
