"""Features for fitting: several processes divide the pictures, and each keeps the features that it computed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.stream import load, picture_name, prefetch

from .augment import copies_each
from .tiling import most_parts

if TYPE_CHECKING:
    from .detector import OnBad
    from .method import AnomalyMethod


def fit_features(
    model: AnomalyMethod, pictures: list[Picture], batch_size: int, workers: int | None, on_bad: OnBad | None
) -> list[str]:
    """Start fitting and call `partial_fit` on this process's share of the pictures.

    A share consists of whole batches, for the features and for held-out scores. So each run of a program has the same
    pictures as in a single process.

    Returns:
        The fingerprints of the crops of all processes' pictures.

    Raises:
        UserError: fewer than two pictures, or several processes would have to fit tiles or augmented copies.
    """
    group, numbered = model.group, list(enumerate(pictures))
    if group.size > 1:
        if model.preprocess.tiled or model.augment.asked:
            option = "--tile" if model.preprocess.tiled else "--augment"
            raise UserError(f"{option}: one process fits such a category: start as many as categories, or fewer")
        numbered = _readable(model, numbered, workers, on_bad)
    pictures = [picture for _, picture in numbered]
    _check_enough(len(pictures))
    model.shard = group.shard(len(pictures), math.lcm(batch_size, model.held_out(len(pictures))))
    model.start_fit(most_parts(pictures, model.preprocess) * (1 + copies_each(model.copied, model.preprocess)))
    own = slice(model.shard.start, model.shard.stop)
    seen = group.joined(model.add_features(pictures[own], batch_size, workers, on_bad))
    model.brightness = group.joined(model.brightness)
    _check_enough(len(seen))
    model.at_once = model.held_out(len(seen))
    if group.size > 1:  # a process names an array by its number in its own share
        model.names = [picture_name(picture, number) for number, picture in numbered]
    else:
        model.shard = range(len(seen))  # fewer if some were skipped
    return seen


def _readable(
    model: AnomalyMethod, numbered: list[tuple[int, Picture]], workers: int | None, on_bad: OnBad | None
) -> list[tuple[int, Picture]]:
    """The pictures that can be read, with their numbers. Each process tries its share of them.

    Which pictures share a batch depends on this, so all processes must know it before the first batch.
    """
    if on_bad is None:
        return numbered
    here, bad = model.group.shard(len(numbered), 1), []
    own = numbered[here.start : here.stop]
    for (number, picture), read in prefetch(lambda one: load(one[1], model.preprocess), own, workers):
        name = picture_name(picture, number)
        try:
            read()
        except UserError as error:
            bad.append(number)
            on_bad(name, error)
    left_out = set(model.group.joined(bad))
    return [(number, picture) for number, picture in numbered if number not in left_out]


def _check_enough(pictures: int) -> None:
    """Raise UserError for fewer pictures than fitting needs."""
    if pictures < 2:
        raise UserError(f"fitting needs at least two good pictures, got {pictures}")
