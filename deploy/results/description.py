"""What a model is, in one line for people; all the rest is in the header of its file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..calibration import Calibration

SIZES = {
    "memory_bank": ("bank of {} patches", 0),
    "position_mean": ("Gaussians of {} channels", 1),
    "descriptors": ("gallery of {} pictures", 0),
}
"""Statistics that tell how large a model is, by their names in its files: the words, and which dimension counts."""


def header_text(
    header: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], method: str, options: Mapping[str, Any]
) -> str:
    """Return the line: method, backbone, layers, sizes, number of pictures and threshold.

    Args:
        header: of a model or stats file.
        shapes: of the statistics, by name.
        method: the method's name.
        options: those of its options that are worth telling.
    """
    parts = [
        f"{method} on {header['arch']} ({' '.join(header['layers'])})",
        f"k {header['k']:g}",
        size_text(shapes),
        f"{header['data']['pictures']} pictures{copies_text(header)}",
        sizes_text(header["preprocess"]),
        f"threshold {header['calibration']['image_threshold']:.4f}",
        *(f"{name} {value}" for name, value in sorted(options.items())),
    ]
    return ", ".join(filter(None, parts))


def levels_text(levels: Calibration) -> str:
    """Return the line about a run's threshold, and a second one where it promises more than it can."""
    return "\n".join(filter(None, (str(levels), levels.warning())))


def sizes_text(preprocess: Mapping[str, Any]) -> str:
    """Return what becomes of a picture, from the header's part about it."""
    size, resize = preprocess["crop_size"], preprocess.get("resize")
    words = size if isinstance(size, int) else f"{size[0]} x {size[1]}"
    if preprocess["fit"] == "tile":
        return f"{f'resize {resize} ' if resize else ''}tiles of {words} that share {preprocess['overlap']}"
    done = {"crop": f"resize {resize} crop", "stretch": "stretched to", "pad": "padded to"}
    return f"{done[preprocess['fit']]} {words}"


def copies_text(header: Mapping[str, Any]) -> str:
    """Return which copies of the training pictures were entered too; empty if none."""
    kept = header.get("copies", {}).get("kept")
    return f" with copies ({' '.join(kept)})" if kept else ""


def size_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return the size of what was fitted, of every member of an ensemble; empty if the statistics are not there."""
    told = []
    for statistic, (words, dimension) in SIZES.items():
        found = [str(shape[dimension]) for name, shape in shapes.items() if name.endswith(statistic)]
        if found:
            told.append(words.format(" + ".join(found)))
    return ", ".join(told)


def recorded(header: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the method's name and its options as the command that fitted the model named them.

    A file knows all options but not which are defaults. A model that was fitted without a command names none.
    """
    try:
        words = shlex.split(header.get("command", ""))
    except ValueError:  # not a command of ours
        words = []
    given = {word[2:].split("=")[0] for word in words if word.startswith("--")}
    method = words[words.index("--method") + 1] if "--method" in words[:-1] else header["method"]
    return method, {name: value for name, value in header["options"].items() if name in given}
