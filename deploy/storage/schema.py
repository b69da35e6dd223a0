"""Small checks, put together to a schema of what json holds."""

from __future__ import annotations

import json
import math
from typing import Any, Callable

Check = Callable[[Any, str], None]
"""Takes a value and its place in the header; raises ValueError, or UserError, that names the place."""
DEEPEST = 16  # levels of a header; ours have five


def parse_json(content: str | bytes) -> Any:
    """The value of a json text; ValueError for none, for one nested deeper than DEEPEST, and for NaN or infinity."""

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
    """A whole number in this range."""

    def check(value: Any, place: str) -> None:
        fits = type(value) is int and low <= value <= high
        _demand(fits, place, f"is no whole number from {low} to {high}")

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in this range, which a float32 can hold."""

    def check(value: Any, place: str) -> None:
        # a number as float32 has it: whole numbers of json have no limit
        fits = type(value) in (int, float) and -3e38 < value < 3e38 and low <= value <= high
        _demand(fits, place, "is no number" if low == -math.inf else f"is no number from {low:g} to {high:g}")

    return check


def text(value: Any, place: str) -> None:
    """Text."""
    _demand(isinstance(value, str), place, "is no text")


def plain(value: Any, place: str) -> None:
    """None, text, true or false, or a number."""
    _demand(value is None or type(value) in (str, bool, int, float), place, "is no plain value")
    if type(value) in (int, float):
        number()(value, place)


def one_of(*values: str) -> Check:
    """One of these words."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, str) and value in values, place, f"is none of {', '.join(values)}")

    return check


def items(inside: Check, least: int = 0, most: float = math.inf, ascending: bool = False) -> Check:
    """A list of so many values, each of which `inside` admits."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, list) and least <= len(value) <= most, place, "is no list of the right length")
        for index, item in enumerate(value):
            inside(item, f"{place}[{index}]")
        _demand(not ascending or all(a <= b for a, b in zip(value, value[1:])), place, "does not ascend")

    return check


def either(first: Check, second: Check, kind: type) -> Check:
    """`first` for values of this type, `second` for others."""
    return lambda value, place: (first if isinstance(value, kind) else second)(value, place)


def maybe(inside: Check) -> Check:
    """None, or what `inside` admits."""
    return lambda value, place: None if value is None else inside(value, place)


def fields(needed: dict[str, Check], more: dict[str, Check] | None = None) -> Check:
    """An object with these values, and perhaps `more`; others are not looked at, as nothing reads them."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, dict), place, "is no object")
        for name, inside in {**needed, **(more or {})}.items():
            where = f"{place}.{name}".lstrip(".")
            _demand(name in value or name not in needed, where, "is missing")
            if name in value:
                inside(value[name], where)

    return check


def each(inside: Check) -> Check:
    """An object whose values `inside` admits, under any names."""

    def check(value: Any, place: str) -> None:
        _demand(isinstance(value, dict), place, "is no object")
        for name, item in value.items():
            inside(item, f"{place}.{name[:40]}")

    return check


def every(*checks: Check) -> Check:
    """All that these demand."""

    def check(value: Any, place: str) -> None:
        for one in checks:
            one(value, place)

    return check
