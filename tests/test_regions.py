"""Regions of the map above the pixel threshold: their place in the picture, the table, COCO json, heat maps."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import done, full_disk, refused, run

from deploy import Calibration, Predictor, Preprocess, UserError
from deploy.predictor import Prediction
from deploy.results.heatmap import panel
from deploy.results.regions import Region, RegionFiles, find_regions

pytestmark = pytest.mark.once

LEVELS = Calibration.from_good([(np.full((2, 2), value), value) for value in np.linspace(0.1, 1, 39)], 0.05)


def found(anomaly_map: np.ndarray, size: Preprocess, shape: tuple[int, int], least: float = 0) -> list[Region]:
    resized = size.resized(np.zeros((*shape, 3), np.uint8))
    return find_regions(
        Prediction("a.png", 2.0, anomaly_map.astype(np.float32), resized, shape, 9.0), LEVELS, size, least
    )


@pytest.mark.parametrize(
    ("size", "shape", "factors", "offset"),
    [
        (Preprocess(64, 32), (128, 256), (2, 2), (32, 96)),  # the centre 64 x 64 of 128 x 256
        (Preprocess(64, (32, 64), "stretch"), (64, 256), (2, 4), (0, 0)),
        (Preprocess(64, 64, "pad"), (64, 128), (2, 2), (-32, 0)),
    ],
)
def test_regions_lie_where_they_are_in_the_picture(
    size: Preprocess, shape: tuple[int, int], factors: tuple[int, int], offset: tuple[int, int]
) -> None:
    """`factors` and `offset` of rows and columns lead from the map to the picture."""
    anomaly_map = np.zeros(size.size)
    anomaly_map[20:24, 10:16], anomaly_map[22, 12] = 1.5, 3  # 4 rows, 6 columns
    anomaly_map[28, 20] = anomaly_map[29, 21] = 2  # touch at a corner
    first, second = found(anomaly_map, size, shape)
    assert (first.number, first.maximum, second.number, second.maximum) == (1, 3, 2, 2)
    x, y = 10 * factors[1] + offset[1], 20 * factors[0] + offset[0]
    assert first.box == pytest.approx((x, y, 6 * factors[1], 4 * factors[0])) and first.corner == (20, 10)
    assert first.area == pytest.approx(24 * factors[0] * factors[1])
    assert second.area == pytest.approx(2 * factors[0] * factors[1])
    assert first.centroid == pytest.approx((x + 3 * factors[1], y + 2 * factors[0]))
    assert cv2.contourArea(first.outline.astype(np.float32)) == pytest.approx(first.area)
    assert first.p_value == 1 / 40, "above all 39 good pictures"
    least = 3 * factors[0] * factors[1]
    assert [region.maximum for region in found(anomaly_map, size, shape, least)] == [3]
    assert found(anomaly_map * 0, size, shape) == []


def test_what_lies_in_the_padding_comes_to_the_border() -> None:
    anomaly_map = np.zeros((64, 64))
    anomaly_map[10:20, 5:9] = 2  # rows 0 to 16 and 48 to 64 are padding
    [region] = found(anomaly_map, Preprocess(64, 64, "pad"), (64, 128))
    assert region.box == pytest.approx((10, 0, 8, 8))


def test_coco_tells_the_pictures_own_size_and_outlines_in_it(tmp_path: Path) -> None:
    size, shape = Preprocess(64, (32, 64), "stretch"), (64, 256)
    anomaly_map = np.zeros(size.size, np.float32)
    anomaly_map[20:24, 40:46] = 2
    prediction = Prediction("a.png", 2.0, anomaly_map, size.resized(np.zeros((*shape, 3), np.uint8)), shape, 9.0)
    files = RegionFiles(tmp_path, "infer", False)
    files.add(prediction, find_regions(prediction, LEVELS, size))
    coco = json.loads(files.finish()[1].read_text())
    [image], [one] = coco["images"], coco["annotations"]
    assert (image["width"], image["height"]) == (256, 64) and one["bbox"] == pytest.approx([160, 40, 24, 8])
    [outline] = np.array(one["segmentation"]).reshape(1, -1, 2)
    assert [*outline.min(axis=0), *np.ptp(outline, axis=0)] == pytest.approx(one["bbox"])


def test_outlines_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    files, anomaly_map = RegionFiles(tmp_path, "infer", False), np.zeros((32, 32))
    anomaly_map[::2, ::4] = 1.5
    size = Preprocess(32, 32)
    prediction = Prediction("a.png", 2.0, anomaly_map, np.zeros((32, 32, 3), np.uint8), (32, 32), 9.0)
    with full_disk(4000):
        with pytest.raises(UserError, match="outlines of regions in .* TMPDIR"):
            files.add(prediction, found(anomaly_map, size, (32, 32)))
        files.drop()
    assert not list(tmp_path.iterdir())


def test_numbers_are_drawn() -> None:
    size, resized = Preprocess(64, 64), np.full((64, 64, 3), 90, np.uint8)
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[30:40, 30:40] = 2
    prediction = Prediction("a.png", 2.0, anomaly_map, resized, (64, 64), 9.0)
    without = panel(prediction, LEVELS, size)
    numbered = panel(prediction, LEVELS, size, regions=find_regions(prediction, LEVELS, size))
    changed = np.argwhere((without != numbered).any(axis=2))
    assert 20 < len(changed) < 400 and np.ptp(changed[:, 0]) < 20


@pytest.mark.parametrize("script", ["infer.py", "predict.py"])
def test_the_scripts_write_regions(script: str, trained: SimpleNamespace, tmp_path: Path) -> None:
    pictures = sorted((trained.data / "washer/test").rglob("*.png"))
    out = tmp_path / "out"
    levels = Predictor.load(trained.export / "stats").calibration
    threshold = levels.scaled(0.3 * levels.image_threshold)
    more = ["--save_path", out, "--save_regions", "--save_mask", "--threshold", threshold, "--min_area", "12"]
    if script == "infer.py":
        said = done(
            run(script, "--stats", trained.export / "stats", "-i", trained.data / "washer/test", *more, "--jsonl")
        )
    else:
        said = done(run(script, *pictures, "--category", "washer", "--model_path", trained.model, *more))
    [table] = out.rglob("*_regions.csv")
    [coco] = [json.loads(path.read_text()) for path in out.rglob("*_coco.json")]
    rows = list(csv.DictReader(table.open()))
    assert f"{len(rows)} regions above the pixel threshold: {table}" in said.stdout and len(rows) > 3
    images = {image["id"]: image for image in coco["images"]}
    assert [image["file_name"] for image in images.values()] == [str(path) for path in pictures]
    assert len(coco["annotations"]) == len(rows) and coco["categories"] == [{"id": 1, "name": "defect"}]
    for number, (row, one) in enumerate(zip(rows, coco["annotations"]), 1):
        image = images[one["image_id"]]
        assert (one["id"], one["category_id"], one["iscrowd"]) == (number, 1, 0)
        assert image["file_name"] == row["path"]
        assert (image["height"], image["width"]) == cv2.imread(row["path"]).shape[:2]
        assert [float(row[name]) for name in ("x", "y", "width", "height")] == one["bbox"]
        assert float(row["area"]) == one["area"] >= 12 and 0 < float(row["p_value"]) <= 1
        x, y, width, height = one["bbox"]
        assert 0 <= x <= x + width <= image["width"] and 0 <= y <= y + height <= image["height"]
        [polygon] = np.array(one["segmentation"], np.float32).reshape(1, -1, 2)
        assert len(polygon) >= 4 and cv2.contourArea(polygon) == pytest.approx(one["area"], rel=0.15)
    if script == "infer.py":
        lines = [json.loads(line) for line in table.with_suffix(".jsonl").read_text().splitlines()]
        assert [{name: str(value) for name, value in line.items()}.keys() for line in lines] == [
            row.keys() for row in rows
        ]
        assert [line["maximum"] for line in lines] == [float(row["maximum"]) for row in rows]
        refused(run(script, "--stats", trained.export / "stats", "--watch", out, "--save_regions"), "--save_regions")
    before = table.read_bytes()
    (out / "note").write_text("x")
    table.write_text("my own table\n")
    words = ["--stats", trained.export / "stats", "-i", pictures[0], "--save_path", table.parent, "--save_regions"]
    if script == "infer.py":
        refused(run(script, *words), "not written by this program")
        assert table.read_text() == "my own table\n" != before
