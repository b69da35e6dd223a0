"""Base class of categories. A category is one product, with its pictures to fit on and to test on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.errors import UserError, report
from deploy.pictures.decode import decode_mask
from deploy.pictures.listing import SUFFIXES, list_pictures
from deploy.pictures.preprocess import Preprocess

GOOD = "good"
GOOD_NAMES = (GOOD, "ok", "normal")
"""Names of folders of good pictures, in upper or lower case."""
SOUNDS_GOOD = {"okay", "pass", "passed", "nominal", "io", "non_defective", "no_defect"}
"""Names of folders that may mean good pictures. They count as a kind of defect, and a note says so."""
TEST_EVERY = 5
"""If a layout does not define which good pictures are for testing, every fifth one is."""


@dataclass(frozen=True)
class LabelledPicture:
    """One test picture with its label."""

    path: Path
    defect: str
    """`good`, or the kind of defect."""
    masks: tuple[Path, ...] = ()
    """Masks that mark all its defects together; empty for good pictures, and if there are no masks."""

    @property
    def defective(self) -> bool:
        """Whether the picture shows a defect."""
        return self.defect != GOOD


@dataclass(frozen=True)
class Category:
    """One product, whose pictures are below `folder`; each layout is a subclass."""

    name: str
    folder: Path

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Return all categories of this layout in `data_path`, sorted by name; empty if it has another layout."""
        raise NotImplementedError

    def train_pictures(self) -> list[Path]:
        """Return the good pictures to fit on, sorted; UserError if there are none."""
        raise NotImplementedError

    def test_pictures(self) -> list[LabelledPicture]:
        """Return the pictures to test on, sorted by kind and name; UserError if there are none."""
        raise NotImplementedError

    def unused_masks(self) -> list[Path]:
        """Return the files in the layout's folders of masks that belong to no picture, sorted."""
        return []


def names_in(selection: str) -> list[str]:
    """Return the names in `NAME[,NAME...]`, each once and in this order; UserError if there is none."""
    names = dict.fromkeys(name.strip() for name in selection.split(",") if name.strip())
    if not names:
        raise UserError("--category is empty: give NAME[,NAME...], all, textures or objects")
    return list(names)


def is_good(folder: str) -> bool:
    """Whether a folder of this name has good pictures."""
    return folder.strip().lower() in GOOD_NAMES


def good_folder(folder: Path) -> Path | None:
    """Return the folder of good pictures directly in `folder`, or None; UserError if there are several."""
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and is_good(path.name)]
    if len(found) > 1:
        raise UserError(f"{folder} holds {' and '.join(path.name for path in found)}: put good pictures into one")
    return found[0] if found else None


def pictures_by_kind(folder: Path, leave_out: Iterable[str] = ()) -> list[tuple[Path, str]]:
    """Return every picture in a folder of folders with its kind: GOOD, or the name of its folder.

    Folders named in `leave_out` are ignored. UserError if a picture is not in a folder of its kind.
    """
    found = []
    for path in list_pictures(folder):
        kind = path.relative_to(folder).parts[0]
        if kind == path.name:
            raise UserError(f"{path} lies in no folder of its kind: move it to {folder}/good or {folder}/DEFECT")
        if kind not in leave_out:
            found.append((path, GOOD if is_good(kind) else kind))
    doubtful = sorted({kind for _, kind in found if kind.strip().lower().replace("-", "_") in SOUNDS_GOOD})
    if doubtful:
        report(
            f"note: {folder}: {', '.join(doubtful)} counts as a kind of defect; call the folder {GOOD} if it is none"
        )
    return sorted(found, key=lambda item: (item[1], item[0]))


def mask_of(place: Path, stem: str) -> tuple[Path, ...]:
    """Return the mask in the folder `place` for the picture with the name `stem`, if there is one."""
    for name in (f"{stem}_mask", stem):
        for suffix in SUFFIXES:
            if (place / f"{name}{suffix}").is_file():
                return (place / f"{name}{suffix}",)
    return ()


def divide(good: list[Path]) -> tuple[list[Path], list[Path]]:
    """Divide good pictures into those to fit on and those to test on: every TEST_EVERY-th one is for testing."""
    kept = [path for number, path in enumerate(good, 1) if number % TEST_EVERY]
    return kept, good[TEST_EVERY - 1 :: TEST_EVERY]


def draw(pictures: list[Path], shots: int | None, seed: int) -> list[Path]:
    """Draw `shots` of the pictures at random by `seed`, and keep their order; None returns all pictures.

    With the same seed, the pictures for fewer shots are a subset of those for more.

    Raises:
        UserError: there are fewer than `shots` pictures, or `shots` is below 2.
    """
    if shots is None:
        return pictures
    if not 2 <= shots <= len(pictures):
        raise UserError(f"--shots {shots}: give 2 to {len(pictures)}, the number of good pictures to fit on")
    return [pictures[number] for number in sorted(np.random.default_rng(seed).permutation(len(pictures))[:shots])]


def read_mask(
    picture: LabelledPicture, preprocess: Preprocess, shape: tuple[int, int] | None = None
) -> np.ndarray | None:
    """Read the ground truth in the size of the map, bool [height, width]: all False for good pictures, None if unknown.

    `shape` is the picture's height and width; tiled pictures need it. UserError if a mask has another shape.
    """
    if not picture.defective:
        return np.zeros(preprocess.map_shape(*shape) if shape else preprocess.size, bool)
    if not picture.masks:
        return None
    parts = []
    for path in picture.masks:
        mask = decode_mask(path)
        if shape is not None and mask.shape != tuple(shape):
            raise UserError(
                f"mask {path} has {mask.shape[1]} x {mask.shape[0]} pixels, its picture {picture.path} "
                f"{shape[1]} x {shape[0]}: give the mask in the picture's own size"
            )
        parts.append(preprocess.crop(preprocess.resized_mask(mask)))
    return np.any(parts, axis=0)
