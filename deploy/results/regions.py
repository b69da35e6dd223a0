"""Regions of the map above the pixel threshold, in pixels of the original picture, as a table and as COCO json."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..calibration import Calibration
from ..pictures.preprocess import Preprocess
from ..predictor import Prediction
from ..storage.files import GrowingFile, check_replaceable, writing
from ..storage.table import csv_line

COLUMNS = ("path", "number", "x", "y", "width", "height", "area", "centroid_x", "centroid_y", "maximum", "p_value")
COCO_START = '{"info": {"description": "PaddlePatch"}, "categories": [{"id": 1, "name": "defect"}], "images": ['


@dataclass(frozen=True)
class Region:
    """Connected pixels of a map above the pixel threshold; pixels that touch at a corner are connected.

    Lengths are in pixels of the original picture; x is measured from its left edge, y from its top edge.
    """

    number: int
    """From 1 in every picture, in descending order of `maximum`."""
    box: tuple[float, float, float, float]
    """x, y, width, height."""
    area: float
    centroid: tuple[float, float]
    maximum: float
    """Largest map value in the region."""
    p_value: float
    """Upper bound of the share of good pictures with a map value as high, see `deploy.conformal.p_value`."""
    outline: np.ndarray
    """float [points, 2]: x and y of the points of its outer edge."""
    corner: tuple[int, int]
    """Row and column in the map of the upper left corner of its box."""


def find_regions(
    prediction: Prediction, calibration: Calibration, preprocess: Preprocess, least_area: float = 0.0
) -> list[Region]:
    """Return the regions of a prediction that have an area of at least `least_area` pixels of the picture."""
    scores = prediction.anomaly_map
    above = (scores > calibration.pixel_threshold).astype(np.uint8)
    count, labels, boxes, centres = cv2.connectedComponentsWithStats(above, connectivity=8)
    found = []
    for label in range(1, count):
        left, top, width, height, pixels = (int(value) for value in boxes[label])
        inside = labels[top : top + height, left : left + width] == label
        # findContours goes through pixel centres: with every pixel split into 2 x 2, they can be rounded to its edges
        fine = np.kron(inside, np.ones((2, 2), bool)).astype(np.uint8)
        [outline], _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        edges = (outline[:, 0] + 1) // 2 + (left, top)
        points = np.array([(left, top), (left + width, top + height), centres[label] + 0.5, *edges], np.float64)
        points = preprocess.to_picture(points, *prediction.shape)
        (x, y), (right, bottom) = points[:2].tolist()
        area = pixels * (right - x) / width * (bottom - y) / height
        if area >= least_area:
            maximum = float(scores[top : top + height, left : left + width][inside].max())
            box = (x, y, right - x, bottom - y)
            found.append((maximum, box, area, tuple(points[2].tolist()), points[3:], (top, left)))
    found.sort(key=lambda one: (-one[0], one[-1]))
    return [
        Region(number, box, area, centre, maximum, calibration.p_value_of_map(maximum), edges, corner)
        for number, (maximum, box, area, centre, edges, corner) in enumerate(found, 1)
    ]


def starts_of(folder: Path, name: str) -> dict[Path, bytes]:
    """Return the files that regions are written to (table, COCO json, jsonl), each with its first bytes."""
    table = folder / f"{name}_regions.csv"
    return {
        table: f"{','.join(COLUMNS)}\n".encode(),
        folder / f"{name}_coco.json": COCO_START.encode(),
        table.with_suffix(".jsonl"): f'{{"{COLUMNS[0]}": '.encode(),
    }


class RegionFiles:
    """Writes `NAME_regions.csv`, a row per region, and `NAME_coco.json`, directly to disk, so memory does not grow.

    Args:
        folder: the files are written there.
        name: NAME in the names of the files.
        jsonl: whether to write `NAME_regions.jsonl` as well.

    Raises:
        UserError: a file cannot be written, or would replace another program's.
    """

    def __init__(self, folder: Path, name: str, jsonl: bool) -> None:
        starts = starts_of(folder, name)
        places = list(starts)[: 3 if jsonl else 2]
        for path in places:
            check_replaceable(path, starts[path])
        self._files = [GrowingFile(path) for path in places]
        for file, start in zip(self._files[:2], starts.values()):
            file.write(start)
        with _writing():
            self._annotations = tempfile.TemporaryFile()  # noqa: SIM115
        self.pictures = self.count = 0

    def add(self, prediction: Prediction, regions: Sequence[Region]) -> None:
        """Add a picture and its regions; UserError if they cannot be written."""
        self.pictures += 1
        height, width = prediction.shape
        entry = {"id": self.pictures, "file_name": prediction.name, "width": width, "height": height}
        self._files[1].write((", " if self.pictures > 1 else "") + json.dumps(entry))
        for region in regions:
            self.count += 1
            row = {COLUMNS[0]: prediction.name, **facts(region)}
            self._files[0].write(csv_line(list(row.values())))
            for file in self._files[2:]:
                file.write(json.dumps(row) + "\n")
            annotation = {"id": self.count, "image_id": self.pictures, "category_id": 1, "iscrowd": 0}
            annotation |= {"bbox": [row[side] for side in ("x", "y", "width", "height")], "area": row["area"]}
            annotation |= {"score": row["maximum"], "p_value": row["p_value"]}
            annotation["segmentation"] = [_short(region.outline.reshape(-1))]
            with _writing():
                self._annotations.write((", " * (self.count > 1) + json.dumps(annotation)).encode())

    def finish(self) -> list[Path]:
        """Complete the files and return their paths."""
        self._files[1].write('], "annotations": [')
        with _writing():
            self._annotations.seek(0)
        for block in iter(lambda: self._annotations.read(1 << 20), b""):
            self._files[1].write(block)
        self._files[1].write("]}\n")
        self._annotations.close()
        return [file.finish() for file in self._files]

    def drop(self) -> None:
        """Remove unfinished files; finished ones stay."""
        with suppress(OSError):  # the folder may be full
            self._annotations.close()
        for file in self._files:
            file.drop()


def _writing() -> AbstractContextManager[None]:
    """Context manager for the use of the temporary file, which turns its errors into a UserError."""
    place = f"outlines of regions in {tempfile.gettempdir()}"
    return writing(place, "free space there, or set TMPDIR to a folder with more")


def facts(region: Region) -> dict[str, Any]:
    """Return the region's numbers as plain json types, by the names of COLUMNS."""
    values = [region.number, *_short([*region.box, region.area, *region.centroid])]
    return {
        **dict(zip(COLUMNS[1:], values)),
        "maximum": float(f"{region.maximum:.6g}"),
        "p_value": float(f"{region.p_value:.4g}"),
    }


def _short(values: Any) -> list[float]:
    """Round lengths to a hundredth of a pixel."""
    return [round(float(value), 2) for value in values]
