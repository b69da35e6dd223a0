"""Schemas of the headers of our files, checked when a file is read: a correct digest does not make a header valid."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .files import plain_name
from .schema import Check, each, either, every, fields, items, maybe, number, one_of, plain, text, whole


def _name(value: Any, place: str) -> None:
    plain_name(value, f"{place} in the header,")


LARGEST = 16384
"""Largest side of a program's input, and largest --resize, in pixels."""
SEED = whole(0, 2**33)
LEVELS = fields(
    {
        "scores": items(number(0), 1, ascending=True),
        "maxima": items(number(0), 1, ascending=True),
        "map_low": number(),
        "map_high": number(),
        "false_alarm": maybe(number(0, 1)),
        "image_threshold": number(0),
        "pixel_threshold": number(0),
    },
    {
        "brightness": items(number(0, 255), ascending=True),
        "labelled": maybe(
            fields({"goal": text, "good": whole(0, 10**12), "defective": whole(0, 10**12), "pictures": items(text)})
        ),
    },
)
PREPROCESS = fields(
    {
        "crop_size": either(items(whole(1, LARGEST), 2, 2), whole(1, LARGEST), list),
        "fit": text,
        "mean": items(number(), 3, 3),
        "std": items(number(1e-6, 1e6), 3, 3),
    },
    {
        "resize": whole(1, LARGEST),
        "value_range": items(whole(0, 65535), 2, 2, ascending=True),
        "overlap": whole(0, LARGEST),
        "roi": items(whole(0, LARGEST**2), 2),
        "roi_size": items(whole(1, LARGEST), 2, 2),
    },
)
PART = {"pictures": whole(0, 10**12), "sha256": text}
BACKBONE = fields({"file": _name, "sha256": text})
MEMBER = {"arch": _name, "layers": items(text, 1), "backbone": BACKBONE, "seed": SEED}
SHARED = {
    "method": _name,
    "arch": _name,
    "layers": items(text, 1),
    "k": number(1e-6, 1e9),
    "options": each(plain),
    "seed": SEED,
    "preprocess": PREPROCESS,
    "calibration": LEVELS,
    "versions": each(text),
    "data": fields(
        PART,
        {
            "fingerprints": items(text),
            "tiles": items(whole(1, 2**31)),
            "forgotten": items(text),
            "parts": items(fields(PART)),
        },
    ),
}


def _parts(value: dict[str, Any], place: str) -> None:
    """Check the backbone of a model, or the members of an ensemble, which have one backbone each."""
    members = fields({"members": items(fields(MEMBER), 2)})
    (members if "members" in value else fields({"backbone": BACKBONE}))(value, place)


COPIES = fields({"kept": items(text)})
MODEL = every(fields(SHARED, {"command": text, "copies": COPIES}), _parts)
HEADERS: dict[str, Check] = {
    "model": MODEL,
    "stats": every(
        MODEL,
        fields(
            {
                "layout": one_of("split", "fused"),
                "input": one_of("float32", "uint8"),
                "program": fields({"graph_sha256": text, "params_sha256": text}),
            }
        ),
    ),
    "backbone": fields({"arch": _name}, {"sha256": text}),
    "training": fields(
        {
            "settings": each(lambda value, place: None),
            "step": whole(0, 10**12),
            "seconds": number(),
            "schedule": each(number()),
        }
    ),
}


def check_header(header: Any, kind: str) -> None:
    """Raise ValueError if the header of a file of this kind lacks a value or has an invalid one; it names the place.

    UserError if a name in it would lead to another folder.
    """
    if kind in HEADERS:
        HEADERS[kind](header, "")


def check_entries(entries: Any, types: Collection[str], size: int) -> None:
    """Raise ValueError unless all entries of a safetensors file are arrays of these types inside of `size` bytes."""
    place = fields({"dtype": one_of(*types), "shape": items(whole(0, 2**40), 0, 32)})
    for name, entry in entries.items():
        place(entry, f"array {name[:40]}")
        offsets = entry.get("data_offsets")
        items(whole(0, size), 2, 2, ascending=True)(offsets, f"array {name[:40]}'s place")
