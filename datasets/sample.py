"""A small data set in MVTec AD's layout, drawn by this code: seeded, licence-free, with masks.

    python -m datasets.sample FOLDER

`washer`: a metal ring on a grey desk, anywhere near the middle and turned at will. `fabric`: a plain weave. Lighting,
position and grain vary; defects vary in place, size and strength.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import cv2
import numpy as np

from deploy.files import write_whole
from deploy.pictures import encode_png
from deploy.progress import progress

SIZE = 256
Defect = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Takes a picture (float [SIZE, SIZE, 3], changed in place), where the product is (bool) and a generator; returns the
mask, bool [SIZE, SIZE]."""


def write_sample(folder: str | Path, seed: int = 521, train: int = 30, good: int = 8, bad: int = 5) -> list[str]:
    """Write both categories below `folder`; the same seed writes the same bytes. Returns the categories' names.

    Args:
        folder: receives washer/ and fabric/.
        seed: decides every picture.
        train: good pictures to fit on, per category.
        good: good pictures to test on, per category.
        bad: pictures per kind of defect.
    """
    jobs = [job for name in CATEGORIES for job in _jobs(Path(folder) / name, name, train, good, bad)]
    for number, (path, category, defect) in enumerate(progress(jobs, len(jobs), "sample pictures")):
        random = np.random.default_rng([seed, number])
        picture, product = CATEGORIES[category][0](random)
        if defect:
            mask = CATEGORIES[category][1][defect](picture, product, random)
            truth = path.parents[2] / "ground_truth" / defect / f"{path.stem}_mask.png"
            write_whole(truth, encode_png(mask.astype(np.uint8) * 255))
        picture += random.normal(0, 2.0, picture.shape)
        write_whole(path, encode_png(np.clip(picture, 0, 255).astype(np.uint8)))
    return list(CATEGORIES)


def _jobs(folder: Path, category: str, train: int, good: int, bad: int) -> Iterator[tuple[Path, str, str]]:
    for number in range(train):
        yield folder / "train/good" / f"{number:03d}.png", category, ""
    for number in range(good):
        yield folder / "test/good" / f"{number:03d}.png", category, ""
    for defect in CATEGORIES[category][1]:
        for number in range(bad):
            yield folder / "test" / defect / f"{number:03d}.png", category, defect


def _light(random: np.random.Generator) -> np.ndarray:
    """A soft lamp somewhere above: float [SIZE, SIZE, 1] around 1."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    angle, tilt = random.uniform(0, 2 * np.pi), random.uniform(0, 0.2)
    return (random.uniform(0.92, 1.08) + tilt * (x * np.cos(angle) + y * np.sin(angle)))[..., None]


def _cloud(random: np.random.Generator, grain: float) -> np.ndarray:
    """Smooth noise of mean 0 and deviation 1, float [SIZE, SIZE]; `grain` is its size in pixels."""
    noise = cv2.GaussianBlur(random.normal(size=(SIZE, SIZE)), (0, 0), grain)
    return (noise - noise.mean()) / noise.std()


def draw_washer(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A turned metal ring: picture float [SIZE, SIZE, 3] and where it is."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    cy, cx = SIZE / 2 + random.uniform(-6, 6, 2)
    radius, angle = np.hypot(y - cy, x - cx), np.arctan2(y - cy, x - cx) + random.uniform(0, 2 * np.pi)
    outer, inner = 84 + random.uniform(-1, 1), 40 + random.uniform(-1, 1)
    ring = np.clip(outer - radius, 0, 1) * np.clip(radius - inner, 0, 1)
    bevel = 30 * np.exp(-((radius - outer + 5) ** 2) / 8) - 25 * np.exp(-((radius - inner - 4) ** 2) / 8)
    metal = 165 + 5 * np.sin(radius * 2.2) + 9 * np.cos(2 * angle) + bevel
    desk = 72 + 3 * _cloud(random, 1.2) + 3 * _cloud(random, 9)
    shadow = np.clip(1 - np.abs(radius - outer - 3) / 9, 0, 1) * 22
    grey = metal * ring + (desk - shadow) * (1 - ring)
    return grey[..., None] * np.array([1.0, 0.99, 0.95]) * _light(random), ring > 0.5


def draw_fabric(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A plain weave filling the picture."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    turn, period = random.uniform(-0.04, 0.04), 12 + random.uniform(-0.15, 0.15)
    u = (x * np.cos(turn) + y * np.sin(turn) + 0.8 * _cloud(random, 14)) / period + random.uniform()
    v = (y * np.cos(turn) - x * np.sin(turn) + 0.8 * _cloud(random, 14)) / period + random.uniform()
    over = (np.floor(u) + np.floor(v)) % 2
    across, along = np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1))
    height = np.where(over > 0, across**0.7 * (0.75 + 0.25 * along), along**0.7 * (0.75 + 0.25 * across))
    colours = np.where(over[..., None] > 0, np.array([148.0, 118, 82]), np.array([128.0, 104, 78]))
    return colours * (0.45 + 0.65 * height)[..., None] * _light(random), np.ones((SIZE, SIZE), bool)


def _place(product: np.ndarray, random: np.random.Generator) -> tuple[int, int]:
    """A point (y, x) well inside the product and the picture's centre crop."""
    inner = cv2.erode(product.astype(np.uint8), np.ones((15, 15), np.uint8))
    inner[:40], inner[-40:], inner[:, :40], inner[:, -40:] = 0, 0, 0, 0
    points = np.argwhere(inner)
    return tuple(points[random.integers(len(points))])


def _blob(at: tuple[int, int], size: float, random: np.random.Generator) -> np.ndarray:
    """An uneven spot, float [SIZE, SIZE], 1 inside and 0 outside with a soft edge."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    ratio = random.uniform(0.7, 1.4)
    radius = np.hypot((y - at[0]) * ratio, (x - at[1]) / ratio) + 0.2 * size * _cloud(random, 6)
    return np.clip((size - radius) / 1.5 + 0.5, 0, 1)


def _path(at: tuple[int, int], length: float, width: int, random: np.random.Generator) -> np.ndarray:
    """A slightly bent line through `at`, float [SIZE, SIZE], 0 to 1."""
    steps = np.linspace(-0.5, 0.5, 20) * length
    angle, bend = random.uniform(0, np.pi), random.uniform(-0.008, 0.008)
    points = np.stack([at[1] + steps * np.cos(angle) - bend * steps**2, at[0] + steps * np.sin(angle)], 1)
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)
    return canvas / 255.0


def _paint(picture: np.ndarray, where: np.ndarray, colour: np.ndarray) -> np.ndarray:
    picture += where[..., None] * (colour - picture)
    return where > 0.3


def scratch(picture: np.ndarray, product: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A bright scratch with a dark edge."""
    line = _path(_place(product, random), random.uniform(25, 50), 2, random) * product
    picture -= np.roll(line, 1, 0)[..., None] * 40
    return _paint(picture, line * random.uniform(0.6, 0.9), np.array([235.0, 235, 230]))


def chip(picture: np.ndarray, product: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A piece broken off the edge."""
    edge = np.argwhere(cv2.dilate(product.astype(np.uint8), np.ones((3, 3), np.uint8)) - product)
    spot = _blob(tuple(edge[random.integers(len(edge))]), random.uniform(8, 13), random) * product
    return _paint(picture, spot, np.array([66.0, 66, 64]))


def stain(picture: np.ndarray, product: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A brownish spot."""
    spot = _blob(_place(product, random), random.uniform(7, 13), random) * product
    return _paint(picture, spot * random.uniform(0.5, 0.75), np.array([88.0, 62, 38]))


def hole(picture: np.ndarray, product: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A hole in the cloth."""
    return _paint(picture, _blob(_place(product, random), random.uniform(6, 11), random), np.array([24.0, 21, 19]))


def thread(picture: np.ndarray, product: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A light thread lying on the cloth."""
    return _paint(
        picture, _path(_place(product, random), random.uniform(40, 80), 3, random), np.array([215.0, 205, 185])
    )


CATEGORIES: dict[str, tuple[Callable, dict[str, Defect]]] = {
    "washer": (draw_washer, {"scratch": scratch, "chip": chip, "stain": stain}),
    "fabric": (draw_fabric, {"hole": hole, "thread": thread, "stain": stain}),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a small sample data set in MVTec AD's layout.")
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=521)
    args = parser.parse_args()
    print(f"sample data: {', '.join(write_sample(args.folder, args.seed))} in {args.folder}")
