"""What a model's header tells about the pictures that it was fitted on, and how they are recognised."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

DIGITS = 16
"""Of a picture's short fingerprint."""


def fingerprint_of(crop: np.ndarray) -> str:
    """Return the sha256 of what the program sees of a picture, uint8 [height, width, 3]."""
    return hashlib.sha256(crop.tobytes()).hexdigest()


def data_of(seen: list[str]) -> dict[str, Any]:
    """Return what is told about pictures with these fingerprints: their number, one of all, and short ones."""
    digest = hashlib.sha256("".join(seen).encode()).hexdigest()
    return {"pictures": len(seen), "sha256": digest, "fingerprints": [mark[:DIGITS] for mark in seen]}


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
    if "fingerprints" in earlier:
        found["fingerprints"] = earlier["fingerprints"] + new["fingerprints"]
    return found


def data_without(data: dict[str, Any], numbers: list[int]) -> dict[str, Any]:
    """Return the same about all pictures but those of these numbers, which `forgotten` names by their fingerprints."""
    marks = data["fingerprints"]
    gone = [*data.get("forgotten", []), *(marks[number] for number in numbers)]
    digest = hashlib.sha256("".join([data["sha256"], *gone]).encode()).hexdigest()
    left = [mark for number, mark in enumerate(marks) if number not in numbers]
    return {**data, "pictures": len(left), "sha256": digest, "fingerprints": left, "forgotten": gone}
