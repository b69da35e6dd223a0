"""Small checks of json values, which are combined to a schema."""

from __future__ import annotations

import json
import math
from typing import Any, Callable

Check = Callable[[Any, str], None]
"""Function of a value and its place in the header; it raises a ValueError or UserError that names the place."""
DEEPEST = 16  # limit of nested levels; our headers have five


def parse_json(content: str | bytes) -> Any:
    """Parse a json text; ValueError if it is not json, nested deeper than DEEPEST, or holds NaN or infinity."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        value = json.loads(content, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inside for outer in level if isinstance(outer, (dict, list)) for inside in _insides(outer)]
    if level:
        raise ValueError("it is nested too deeply")
    return value


def _insides(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _demand(holds: bool, place: str, told: str) -> None:
    if not holds:
        raise ValueError(f"its {place or 'header'} {told}")


def whole(low: int, high: int) -> Check:
    """Check for a whole number from `low` to `high`."""

    def check(value: Any, place: str) -> None:
        fits = type(value) is int and low <= value <= high
        _demand(fits, place, f"is no whole number from {low} to {high}")

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """Check for a number from `low` to `high` that float32 can hold."""

    def check(value: Any, place: str) -> None:
        # the limit of float32 is needed because whole numbers in json have no limit
        fits = type(value) in (int, float) and -3e38 < value < 3e38 and low <= value <= high
        _demand(fits, place, "is no number" if low == -math.inf else f"is no number from {low:g} to {high:g}")

    return check


def text(value: Any, place: str) -> None:
    """Check for text."""
    _demand(isinstance(value, str), place, "is no text")


def plain(value: Any, place: str) -> None:
    """Check for None, text, True, False, or a number that float32 can hold."""
    _demand(value is None or type(value) in (str, bool, int, float), place, "is no plain value")
    if type(value) in (int, float):
        number()(value, place)


def one_of(*values: str) -> Check:
    """Check for one of these words."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, str) and value in values, place, f"is none of {', '.join(values)}")

    return check


def items(inside: Check, least: int = 0, most: float = math.inf, ascending: bool = False) -> Check:
    """Check for a list of `least` to `most` values, each of which passes `inside`; in `ascending` order if wanted."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, list) and least <= len(value) <= most, place, "is no list of the right length")
        for index, item in enumerate(value):
            inside(item, f"{place}[{index}]")
        _demand(not ascending or all(a <= b for a, b in zip(value, value[1:])), place, "does not ascend")

    return check


def either(first: Check, second: Check, kind: type) -> Check:
    """Check values of type `kind` with `first`, all others with `second`."""
    return lambda value, place: (first if isinstance(value, kind) else second)(value, place)


def maybe(inside: Check) -> Check:
    """Check for None, or for a value that passes `inside`."""
    return lambda value, place: None if value is None else inside(value, place)


def fields(needed: dict[str, Check], more: dict[str, Check] | None = None) -> Check:
    """Check for an object with the `needed` values; those in `more` are optional, others are not checked or read."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, dict), place, "is no object")
        for name, inside in {**needed, **(more or {})}.items():
            where = f"{place}.{name}".lstrip(".")
            _demand(name in value or name not in needed, where, "is missing")
            if name in value:
                inside(value[name], where)

    return check


def each(inside: Check) -> Check:
    """Check for an object with any names whose values all pass `inside`."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, dict), place, "is no object")
        for name, item in value.items():
            inside(item, f"{place}.{name[:40]}")

    return check


def every(*checks: Check) -> Check:
    """Check that a value passes all of these checks."""

    def check(value: Any, place: str) -> None:
        for one in checks:
            one(value, place)

    return check
