"""Published figures of MVTec AD, shown beside the user's own; docs/mvtec.md has the same tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deploy.results.description import recorded

FILE = Path(__file__).with_name("published.json")
MEAN = "mean"


class Published(NamedTuple):
    """Published figures of a method on a backbone."""

    source: str
    k: float
    categories: dict[str, dict[str, float | None]]
    """For each category, figures by their names in `evaluation.report.FIGURES`; MEAN has the means over all of them."""

    def mean_of(self, names: list[str]) -> dict[str, float | None]:
        """Return the published means if they are over exactly these categories, else none."""
        return self.categories[MEAN] if {*names, MEAN} == set(self.categories) else {}


def published_for(header: Mapping[str, Any]) -> Published | None:
    """Return the published figures for a model's method and backbone; of several, those with the nearest k."""
    method = recorded(header)[0]
    known = json.loads(FILE.read_text("utf-8"))
    same = [one for one in known if (one["method"], one["arch"]) == (method, header["arch"])]
    if not same:
        return None
    found = min(same, key=lambda one: abs(one["k"] - header["k"]))
    return Published(found["source"], found["k"], found["categories"])
