"""A sample data set in MVTec AD's layout, drawn by code: reproducible by a seed, free of licences, with exact masks.

It has objects on a background (`washer`, `tablet`, `connector`) and textures (`fabric`, `wood`), each with several
kinds of flaws, some of them faint. Pictures of one category differ like those of an inspection camera: in position and
rotation, in the lamp's direction, strength and colour, in focus and grain, and in the variation of the material.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

import cv2
import numpy as np

from deploy.command_line.progress import progress
from deploy.errors import UserError
from deploy.pictures.decode import encode_png
from deploy.storage.files import write_whole

from . import flaws
from .camera import Camera
from .objects import Connector, Tablet, Washer
from .surface import SIZE, Surface
from .textures import Fabric, Wood

Flaw = Callable[..., Surface]
CATEGORIES: dict[str, tuple[type, dict[str, Flaw]]] = {
    "washer": (
        Washer,
        {"scratch": flaws.scratch, "chip": flaws.washer_chip, "stain": flaws.stain, "dent": flaws.dent},
    ),
    "fabric": (
        Fabric,
        {"hole": flaws.torn_hole, "thread": flaws.thread, "stain": flaws.soaked_stain, "float": flaws.floating_yarn},
    ),
    "connector": (
        Connector,
        {
            "missing_pin": flaws.missing_pin,
            "bent_pin": flaws.bent_pin,
            "bridge": flaws.bridge,
            "scratch": flaws.scratch,
        },
    ),
    "tablet": (
        Tablet,
        {"print": flaws.wrong_print, "crack": flaws.crack, "chip": flaws.tablet_chip, "speck": flaws.speck},
    ),
    "wood": (
        Wood,
        {"scratch": flaws.scratch, "hole": flaws.worm_hole, "stain": flaws.stain, "dent": flaws.dent},
    ),
}
BORDER = 18
"""Smallest distance in pixels between a flaw and the picture's edges, so that a centre crop of 224 shows all flaws."""
VISIBLE = 4.0
"""A pixel belongs to a flaw's mask if the flaw changes one of its colours by more than VISIBLE levels, without noise.
The mean change in the mask is at least twice as large: fainter flaws are drawn again."""


def write_sample(
    folder: str | Path,
    seed: int = 521,
    train: int = 32,
    good: int = 10,
    bad: int = 4,
    categories: Sequence[str] | None = None,
) -> list[str]:
    """Write the categories below `folder`. Returns the categories' names.

    The same seed writes the same bytes; with another numpy or OpenCV some pixels differ by a grey level or two.

    Args:
        folder: washer/, fabric/ and so on are written there.
        seed: of all pictures.
        train: number of good pictures to fit on, per category.
        good: number of good pictures to test on, per category.
        bad: number of pictures per kind of flaw.
        categories: names of categories; None means all of `CATEGORIES`. A category's pictures do not depend on others.

    Raises:
        UserError: a category is unknown, or a category's folder has a file that this call would not write. Nothing is
            overwritten.
    """
    names = list(CATEGORIES if categories is None else categories)
    for name in names:
        if name not in CATEGORIES:
            raise UserError(f"no sample category {name}: choose from {', '.join(CATEGORIES)}")
    jobs = [job for name in names for job in _jobs(Path(folder) / name, train, good, bad)]
    check_free([Path(folder) / name for name in names], {path for path, _ in jobs})
    for path, number in progress(jobs, len(jobs), "sample pictures"):
        kind = path.parent.name
        picture, mask = draw(path.parents[2].name, kind, seed, number)
        if kind != "good":
            write_once(mask_of(path), encode_png(mask.astype(np.uint8) * 255))
        write_once(path, encode_png(picture))
    return names


def mask_of(path: Path) -> Path:
    """Return the path of the mask of a picture with a flaw."""
    return path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"


def check_free(folders: Sequence[Path], pictures: set[Path]) -> None:
    """Raise UserError if one of `folders` has a file that is not among `pictures` and their masks."""
    ours = pictures | {mask_of(path) for path in pictures}
    for folder in folders:
        other = next((path for path in sorted(folder.rglob("*")) if not path.is_dir() and path not in ours), None)
        if other is not None:
            raise UserError(f"{other} is not of this sample: give an empty folder, or remove {folder}")


def write_once(path: Path, data: bytes) -> None:
    """Write a file, unless it has this content already; UserError if it has another content."""
    if not path.exists():
        write_whole(path, data)
    elif path.read_bytes() != data:
        raise UserError(
            f"{path} is another picture than this sample's, perhaps drawn with other versions: "
            f"give an empty folder, or remove {path.parents[2]}"
        )


def draw(category: str, kind: str, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a picture, uint8 [SIZE, SIZE, 3], and its mask, bool [SIZE, SIZE].

    `kind` is a flaw of the category, or `good`. With the same seed and number, a picture with a flaw and a good picture
    show the same product under the same lamp with the same noise, so they differ only in the mask and close to it.
    """
    make, kinds = CATEGORIES[category]
    flaw = None if kind == "good" else kinds[kind]
    key = [seed, zlib.crc32(category.encode()), number]
    camera = Camera(np.random.default_rng([*key, 1]))

    def product() -> flaws.Product:
        return make(np.random.default_rng([*key, 0]))

    picture, mask = camera.look(product().surface()), np.zeros((SIZE, SIZE), bool)
    if flaw:
        picture, mask = _flawed(lambda random: camera.look(flaw(product(), random)), picture, [*key, 3])
    return camera.expose(picture, np.random.default_rng([*key, 2])), mask


def _flawed(
    look: Callable[[np.random.Generator], np.ndarray], picture: np.ndarray, key: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture with a flaw, and its mask.

    `look` draws random flaws; the first one is taken that is visible and far enough from the border.
    """
    random = np.random.default_rng(key)
    for _ in range(100):
        flawed = look(random)
        change = np.abs(flawed - picture).max(axis=2)
        mask = _pieces(change > VISIBLE)
        inner = mask[BORDER:-BORDER, BORDER:-BORDER]
        if inner.any() and inner.sum() == mask.sum() and change[mask].mean() >= 2 * VISIBLE:
            near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            return np.where(near[..., None], flawed, picture), mask
    raise RuntimeError(f"no room for the flaw of {key}")


def _pieces(seen: np.ndarray) -> np.ndarray:
    """Clean a mask, bool [SIZE, SIZE]: gaps are closed, holes filled, and regions of a few pixels removed."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    closed = cv2.morphologyEx(np.pad(seen.astype(np.uint8), 8), cv2.MORPH_CLOSE, disc)[8:-8, 8:-8].copy()
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(closed, outlines, -1, 1, cv2.FILLED)
    _, labels, regions, _ = cv2.connectedComponentsWithStats(closed)
    return (closed > 0) & (regions[:, cv2.CC_STAT_AREA] >= 12)[labels]


def _jobs(folder: Path, train: int, good: int, bad: int) -> Iterator[tuple[Path, int]]:
    """Yield each picture's path and number; training, good and flawed pictures have different numbers."""
    for number in range(train):
        yield folder / "train/good" / f"{number:03d}.png", number
    for number in range(good):
        yield folder / "test/good" / f"{number:03d}.png", 100_000 + number
    for index, kind in enumerate(CATEGORIES[folder.name][1]):
        for number in range(bad):
            yield folder / "test" / kind / f"{number:03d}.png", 100_000 * (index + 2) + number
