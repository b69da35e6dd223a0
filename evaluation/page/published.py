"""Published figures of MVTec AD, to stand beside one's own; docs/mvtec.md has the same tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deploy.results.description import recorded

FILE = Path(__file__).with_name("published.json")
MEAN = "mean"


class Published(NamedTuple):
    """What was published of a method on a backbone."""

    source: str
    k: float
    categories: dict[str, dict[str, float | None]]
    """Figures by their names in `evaluation.report.FIGURES`, by category; those of MEAN are over all of them."""

    def mean_of(self, names: list[str]) -> dict[str, float | None]:
        """The published means, if they are over exactly these categories."""
        return self.categories[MEAN] if {*names, MEAN} == set(self.categories) else {}


def published_for(header: Mapping[str, Any]) -> Published | None:
    """What was published of the method and backbone of a model, by its header; of several, with the nearest k."""
    method = recorded(header)[0]
    same = [one for one in json.loads(FILE.read_text()) if (one["method"], one["arch"]) == (method, header["arch"])]
    if not same:
        return None
    found = min(same, key=lambda one: abs(one["k"] - header["k"]))
    return Published(found["source"], found["k"], found["categories"])
