"""The letters printed on the sample data's products, as strokes. OpenCV's own letters differ between versions."""

from __future__ import annotations

import numpy as np

from .surface import stroke

Line = list[tuple[float, float]]
WIDTH, GAP = 0.6, 0.3
"""Width of a letter and of the space after it; the height of a letter is 1."""


def _arc(right: float, down: float, across: float, along: float, start: float, end: float) -> Line:
    """Return part of an ellipse around (right, down); angles are in degrees, clockwise from the right."""
    turns = np.radians(np.linspace(start, end, 16))
    return list(zip(right + across * np.cos(turns), down + along * np.sin(turns)))


_BOWL = [(0.0, 1.0), (0.0, 0.0), *_arc(0.33, 0.26, 0.27, 0.26, -90, 90), (0.0, 0.52)]
LETTERS: dict[str, list[Line]] = {
    "P": [_BOWL],
    "R": [_BOWL, [(0.28, 0.52), (0.6, 1.0)]],
    "F": [[(0.0, 1.0), (0.0, 0.0), (0.56, 0.0)], [(0.0, 0.47), (0.46, 0.47)]],
    "K": [[(0.0, 0.0), (0.0, 1.0)], [(0.58, 0.0), (0.0, 0.6)], [(0.22, 0.4), (0.6, 1.0)]],
    "X": [[(0.0, 0.0), (0.6, 1.0)], [(0.6, 0.0), (0.0, 1.0)]],
    "0": [_arc(0.3, 0.5, 0.3, 0.5, 0, 360)],
    "2": [[*_arc(0.3, 0.3, 0.3, 0.3, 190, 392), (0.0, 1.0), (0.6, 1.0)]],
    "5": [[(0.55, 0.0), (0.08, 0.0), *_arc(0.28, 0.68, 0.32, 0.32, 225, 500)]],
    "6": [_arc(0.3, 0.68, 0.3, 0.32, 0, 360), _arc(0.55, 0.62, 0.55, 0.62, 180, 262)],
    "8": [_arc(0.3, 0.25, 0.25, 0.25, 0, 360), _arc(0.3, 0.73, 0.3, 0.27, 0, 360)],
}


def lettering(text: str, centre: np.ndarray, turn: float, size: float) -> np.ndarray:
    """Draw `text` around `centre` (y, x), rotated by `turn` radians, with letters of height `size` pixels.

    Returns float32 [256, 256], 0 to 1.
    """
    cos, sin = size * np.cos(turn), size * np.sin(turn)
    lines, start = [], -(len(text) * (WIDTH + GAP) - GAP) / 2
    for letter in text:
        for line in LETTERS[letter]:
            right, down = np.transpose(line) + [[start], [-0.5]]
            lines.append(np.stack([centre[0] + right * sin + down * cos, centre[1] + right * cos - down * sin], 1))
        start += WIDTH + GAP
    return stroke(lines, 0.15 * size)
