"""What a model's header tells about the pictures that it was fitted on, and how they are recognised."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

DIGITS = 16
"""Of a picture's short fingerprint."""
BY_PICTURE = ("fingerprints", "tiles")
"""What the header has of each picture."""


def fingerprint_of(crop: np.ndarray) -> str:
    """Return the sha256 of what the program sees of a picture, uint8 [height, width, 3]."""
    return hashlib.sha256(crop.tobytes()).hexdigest()


def data_of(seen: list[str], tiles: list[int] | None = None) -> dict[str, Any]:
    """Return what is told about pictures with these fingerprints: their number, one of all, and short ones.

    Where they are seen in tiles, also how many tiles each has.
    """
    digest = hashlib.sha256("".join(seen).encode()).hexdigest()
    found = {"pictures": len(seen), "sha256": digest, "fingerprints": [mark[:DIGITS] for mark in seen]}
    return found if tiles is None else {**found, "tiles": tiles}


def part_ends(data: dict[str, Any]) -> np.ndarray:
    """Where each picture's tiles end among those of all, int64 [pictures]; whole pictures are one each."""
    return np.cumsum(data.get("tiles", np.ones(data["pictures"], np.int64)))


def joined_data(earlier: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the same about all pictures, and in `parts` about those of the first fit and of each update.

    Models of older versions have no short fingerprints, and then neither has what comes of them.
    """
    parts = [{name: of[name] for name in ("pictures", "sha256")} for of in (earlier, new)]
    found = {
        "pictures": earlier["pictures"] + new["pictures"],
        "sha256": hashlib.sha256("".join(part["sha256"] for part in parts).encode()).hexdigest(),
        "parts": [*earlier.get("parts", parts[:1]), parts[1]],
    }
    if "forgotten" in earlier:
        found["forgotten"] = earlier["forgotten"]
    for name in BY_PICTURE:
        if name in earlier:
            found[name] = earlier[name] + new[name]
    return found


def data_without(data: dict[str, Any], numbers: list[int]) -> dict[str, Any]:
    """Return the same about all pictures but those of these numbers, which `forgotten` names by their fingerprints."""
    marks = data["fingerprints"]
    gone = [*data.get("forgotten", []), *(marks[number] for number in numbers)]
    digest = hashlib.sha256("".join([data["sha256"], *gone]).encode()).hexdigest()
    left = [number for number in range(len(marks)) if number not in numbers]
    kept = {name: [data[name][number] for number in left] for name in BY_PICTURE if name in data}
    return {**data, "pictures": len(left), "sha256": digest, "forgotten": gone, **kept}
