"""The part of a model's header that describes its training pictures, and the fingerprints that identify them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

DIGITS = 16
"""Length of a picture's short fingerprint, in hexadecimal digits."""
BY_PICTURE = ("fingerprints", "tiles")
"""Keys of the header's `data` that hold a list with one value for each picture."""


def fingerprint_of(crop: np.ndarray) -> str:
    """Return the sha256 of a picture after resizing and cropping, uint8 [height, width, 3]."""
    return hashlib.sha256(crop.tobytes()).hexdigest()


def data_of(seen: list[str], tiles: list[int] | None = None) -> dict[str, Any]:
    """Return the header's `data` for pictures with these fingerprints.

    It holds the number of pictures, one sha256 of all fingerprints, and the short fingerprints; for tiled pictures also
    the number of tiles of each.
    """
    digest = hashlib.sha256("".join(seen).encode()).hexdigest()
    found = {"pictures": len(seen), "sha256": digest, "fingerprints": [mark[:DIGITS] for mark in seen]}
    return found if tiles is None else {**found, "tiles": tiles}


def part_ends(data: dict[str, Any]) -> np.ndarray:
    """Where each picture's tiles end among the tiles of all pictures: int64 [pictures]. A whole picture is one tile."""
    return np.cumsum(data.get("tiles", np.ones(data["pictures"], np.int64)))


def joined_data(earlier: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Join the `data` of the model so far with that of an update.

    `parts` of the result lists the number of pictures and sha256 of the first fit and of each update. If `earlier` has
    no short fingerprints, as in models of older versions, the result has none either.
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
    """Return `data` without the pictures of these numbers; their short fingerprints are added to `forgotten`."""
    marks = data["fingerprints"]
    gone = [*data.get("forgotten", []), *(marks[number] for number in numbers)]
    digest = hashlib.sha256("".join([data["sha256"], *gone]).encode()).hexdigest()
    left = [number for number in range(len(marks)) if number not in numbers]
    kept = {name: [data[name][number] for number in left] for name in BY_PICTURE if name in data}
    return {**data, "pictures": len(left), "sha256": digest, "forgotten": gone, **kept}
