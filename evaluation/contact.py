"""The contact sheet of a category: small heat maps of its test pictures, ordered by kind of defect and score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datasets.readers.category import GOOD
from deploy.calibration import Calibration
from deploy.pictures.decode import encode_png
from deploy.predictor import Prediction
from deploy.results.heatmap import INK, readable, text_width, write_text
from deploy.results.picture_folder import PictureFolder

NAME = "contact_sheet"
MOST = 400
"""Largest number of pictures on a sheet. If there are more, those with wrong verdicts are chosen first, then those with
scores nearest to the threshold."""
SIDE, CAPTION, GAP, COLUMNS, HEADING = 150, 34, 10, 10, 40  # in pixels, except COLUMNS, the number of columns
ALARM, CALM = (170, 60, 0), (110, 110, 110)


class Thumb(NamedTuple):
    """A small heat map."""

    kind: str
    score: float
    name: str
    verdict: str
    """`MISSED` or `FALSE ALARM`; empty if the verdict is right."""
    picture: np.ndarray


class ContactSheet:
    """Collects heat maps while they are drawn, and writes them as one picture.

    Args:
        kinds: `good` or the kind of defect, by the pictures' paths.
        levels: the thresholds that decide the verdicts.
    """

    def __init__(self, kinds: Mapping[str, str], levels: Calibration) -> None:
        self.kinds, self.levels = kinds, levels
        self._thumbs: list[Thumb] = []

    def add(self, prediction: Prediction, heat: np.ndarray) -> None:
        """Add a prediction and its map over the picture, uint8 RGB; several threads may call this at the same time."""
        kind, called = self.kinds[prediction.name], self.levels.is_defect(prediction.score)
        scale = SIDE / max(heat.shape[:2])
        size = tuple(max(1, round(side * scale)) for side in heat.shape[1::-1])
        small = cv2.resize(heat, size, interpolation=cv2.INTER_AREA)
        verdict = "" if called == (kind != GOOD) else "FALSE ALARM" if called else "MISSED"
        self._thumbs.append(Thumb(kind, prediction.score, readable(Path(prediction.name).stem), verdict, small))

    def write(self, folder: Path) -> Path | None:
        """Write `folder/contact_sheet.png` and return its path; UserError if it would replace another program's file.

        If no heat map was added, the sheet of an earlier evaluation is removed, and None is returned.
        """
        place = PictureFolder(folder, "eval")
        if not self._thumbs:
            place.remove(NAME)
            return None
        place.write(NAME, encode_png(self.draw()))
        path = folder / f"{NAME}.png"
        print(f"contact sheet: {path}", flush=True)
        return path

    def draw(self) -> np.ndarray:
        """Draw the sheet, uint8 RGB: a block for each kind, good pictures first; in a block the highest score first."""
        threshold = self.levels.image_threshold
        ranked = sorted(self._thumbs, key=lambda one: (not one.verdict, abs(one.score - threshold), one.name))
        kept = sorted(ranked[:MOST], key=lambda one: (one.kind != GOOD, one.kind, -one.score, one.name))
        kinds = list(dict.fromkeys(one.kind for one in kept))
        width = COLUMNS * (SIDE + GAP) + GAP
        blocks = []
        for kind in kinds:
            own = [one for one in kept if one.kind == kind]
            wrong = sum(bool(one.verdict) for one in own)
            what = "called defective" if kind == GOOD else "missed"
            heading = np.full((HEADING, width, 3), 255, np.uint8)
            write_text(heading, f"{readable(kind)}: {len(own)}, {wrong} {what}", (GAP, HEADING - 12), INK, 0.6)
            blocks.append(heading)
            blocks += [self._row(own[start : start + COLUMNS], width) for start in range(0, len(own), COLUMNS)]
        if len(ranked) > MOST:
            note = np.full((HEADING, width, 3), 255, np.uint8)
            write_text(note, f"{MOST} of {len(ranked)} pictures: those nearest to the threshold", (GAP, 24), CALM, 0.5)
            blocks.append(note)
        return np.concatenate(blocks)

    def _row(self, thumbs: list[Thumb], width: int) -> np.ndarray:
        row = np.full((SIDE + CAPTION + GAP, width, 3), 255, np.uint8)
        for column, one in enumerate(thumbs):
            left = GAP + column * (SIDE + GAP)
            height, own_width = one.picture.shape[:2]
            x, y = left + (SIDE - own_width) // 2, SIDE - height
            row[y : y + height, x : x + own_width] = one.picture
            if one.verdict:
                cv2.rectangle(row, (x, y), (x + own_width - 1, y + height - 1), ALARM, 3)
            score = f"{one.score:.3f}"
            name = one.name[-max(1, (SIDE - text_width(score, 0.42) - GAP) // 8) :]
            write_text(row, name, (left, SIDE + 14), CALM, 0.38)
            write_text(row, score, (left + SIDE - text_width(score, 0.42), SIDE + 14), INK, 0.42)
            write_text(row, one.verdict, (left, SIDE + 30), ALARM, 0.45)
        return row
