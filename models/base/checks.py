"""Checks of arguments: types and ranges of a method's options and the seed, and pictures to change a model with."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.errors import UserError
from deploy.pictures.decode import Picture, several

if TYPE_CHECKING:
    from .method import AnomalyMethod

MOST_SEED = 2**32 - 1
BIG = 10**9  # limit for numbers in options


def checked(name: str, value: Any, default: Any, whole: bool) -> Any:
    """Return an option's value as a plain type of json; UserError unless it has the type of its default.

    With `whole` it must be a whole number. Numbers must be finite, and not larger than BIG. None is allowed where it is
    the default, and for `k`.
    """
    if value is None and (default is None or name == "k"):
        return None
    if name == "k" or isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, Real) or not -BIG < value < BIG:
            raise UserError(f"--{name} {value} is no number between -{BIG:g} and {BIG:g}")
    elif whole or isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, Integral) or abs(value) > BIG:
            raise UserError(f"--{name} {value} is no whole number up to {BIG:g}")
    elif not isinstance(value, (str, Path)):
        raise UserError(f"--{name} {value} is not text")
    if isinstance(value, Path):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def checked_seed(seed: Any) -> int:
    """Return the seed as a plain int; UserError unless it is a whole number that every random generator accepts."""
    if not isinstance(seed, Integral) or not 0 <= seed <= MOST_SEED:
        raise UserError(f"--seed {seed}: give a whole number from 0 to {MOST_SEED}")
    return int(seed)


def pictures_to(what: str, model: AnomalyMethod, pictures: Iterable[Picture]) -> list[Picture]:
    """The pictures to `update` or `forget` in a model; UserError for none, or where the model cannot be changed."""
    if model.calibration is None:
        raise UserError(f"this {model.NAME} model is not fitted: there is nothing to {what}")
    if "augment" in model.header:
        raise UserError(f"--{what}: this model was trained with --augment, and cannot be changed: train it again")
    if model.preprocess.tiled and len(model.data.get("tiles", ())) != model.data["pictures"]:
        raise UserError(f"--{what}: the model is of an older version, which noted no tiles: train it again")
    chosen = list(several(pictures))
    if not chosen:
        raise UserError(f"--{what}: the list of pictures is empty: give one or more")
    return chosen
