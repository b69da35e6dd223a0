"""One-line descriptions of a model for people; the header of its file has everything."""

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
"""Statistics that show a model's size, by their names in its files: the words, and which dimension is the size."""


def header_text(
    header: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], method: str, options: Mapping[str, Any]
) -> str:
    """Return the line: method, backbone, layers, sizes, number of pictures and threshold; then a line of options.

    Args:
        header: header of a model or stats file.
        shapes: shapes of the statistics, by name.
        method: the method's name.
        options: the method's options that are shown; if there are none, there is no second line.
    """
    parts = [
        f"{method} on {header['arch']} ({' '.join(header['layers'])})",
        f"k {header['k']:g}",
        size_text(shapes),
        f"{header['data']['pictures']} pictures{copies_text(header)}",
        sizes_text(header["preprocess"]),
        f"threshold {header['calibration']['image_threshold']:.4f}",
    ]
    shown = ", ".join(f"{name} {value}" for name, value in sorted(options.items()))
    return ", ".join(filter(None, parts)) + (f",\n  {shown}" if shown else "")


def levels_text(levels: Calibration) -> str:
    """Return the line about a run's threshold, and a second line if there are too few pictures for its rate."""
    return "\n".join(filter(None, (str(levels), levels.warning())))


def sizes_text(preprocess: Mapping[str, Any]) -> str:
    """Return how a picture is resized and cropped, from the header's `preprocess`."""
    size, resize = preprocess["crop_size"], preprocess.get("resize")
    words = size if isinstance(size, int) else f"{size[0]} x {size[1]}"
    if preprocess["fit"] == "tile":
        return f"{f'resize {resize} ' if resize else ''}tiles of {words} that share {preprocess['overlap']}"
    done = {"crop": f"resize {resize} crop", "stretch": "stretched to", "pad": "padded to"}
    return f"{done[preprocess['fit']]} {words}"


def copies_text(header: Mapping[str, Any]) -> str:
    """Return which augmented copies of the training pictures the model was trained on; empty if none."""
    kept = header.get("copies", {}).get("kept")
    return f" with copies ({' '.join(kept)})" if kept else ""


def size_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return the model's size, for an ensemble that of every member; empty if the statistics are not in `shapes`."""
    told = []
    for statistic, (words, dimension) in SIZES.items():
        found = [str(shape[dimension]) for name, shape in shapes.items() if name.endswith(statistic)]
        if found:
            told.append(words.format(" + ".join(found)))
    return ", ".join(told)


def recorded(header: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the method's name and the options that were given in the command that fitted the model.

    The header has the values of all options, but does not say which are defaults. For a model that was fitted without a
    command, no options are returned.
    """
    try:
        words = shlex.split(header.get("command", ""))
    except ValueError:  # not a command of ours
        words = []
    given = {word[2:].split("=")[0] for word in words if word.startswith("--")}
    method = words[words.index("--method") + 1] if "--method" in words[:-1] else header["method"]
    return method, {name: value for name, value in header["options"].items() if name in given}
