"""Checks that a method's options and the seed have the right types and ranges."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any

from deploy.errors import UserError

MOST_SEED = 2**32 - 1
BIG = 10**9  # limit for numbers in options


def check_type(name: str, value: Any, default: Any, whole: bool) -> None:
    """Raise UserError unless an option has the type of its default (or is a whole number, with `whole`).

    Numbers must be finite, and not larger than BIG. None is allowed where it is the default, and for `k`.
    """
    if value is None and (default is None or name == "k"):
        return
    if name == "k" or isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, Real) or not -BIG < value < BIG:
            raise UserError(f"--{name} {value} is no number between -{BIG:g} and {BIG:g}")
    elif whole or isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, Integral) or abs(value) > BIG:
            raise UserError(f"--{name} {value} is no whole number up to {BIG:g}")
    elif not isinstance(value, (str, Path)):
        raise UserError(f"--{name} {value} is not text")


def check_seed(seed: Any) -> None:
    """Raise UserError unless `seed` is a whole number that every random generator accepts."""
    if not isinstance(seed, Integral) or not 0 <= seed <= MOST_SEED:
        raise UserError(f"--seed {seed}: give a whole number from 0 to {MOST_SEED}")
