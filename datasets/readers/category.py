"""A category, that is one product: which pictures to fit on, which to test on, and what is known of them."""

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
"""What folders of good pictures are called, in any case."""
SOUNDS_GOOD = {"okay", "pass", "passed", "nominal", "io", "non_defective", "no_defect"}
"""Names of folders that may mean good pictures: they count as a kind of defect, and we say so."""
TEST_EVERY = 5
"""Where a layout does not say which good pictures are for testing, every fifth is."""


@dataclass(frozen=True)
class LabelledPicture:
    """One test picture with its label."""

    path: Path
    defect: str
    """`good`, or the kind of defect."""
    masks: tuple[Path, ...] = ()
    """Where its defects are marked, all of them together; empty for good pictures and where it is not known."""

    @property
    def defective(self) -> bool:
        """Whether the picture shows a defect."""
        return self.defect != GOOD


@dataclass(frozen=True)
class Category:
    """One product, whose pictures lie below `folder`; a layout is a subclass."""

    name: str
    folder: Path

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Every category of this layout in `data_path`, sorted by name; empty where it is of another layout."""
        raise NotImplementedError

    def train_pictures(self) -> list[Path]:
        """The good pictures to fit on, sorted; UserError when there are none."""
        raise NotImplementedError

    def test_pictures(self) -> list[LabelledPicture]:
        """The pictures to test on, sorted by kind and name; UserError when there are none."""
        raise NotImplementedError

    def unused_masks(self) -> list[Path]:
        """What lies in the layout's folders of masks and is of no picture, sorted; where it has none, nothing."""
        return []


def is_good(folder: str) -> bool:
    """Whether a folder of this name holds good pictures."""
    return folder.strip().lower() in GOOD_NAMES


def good_folder(folder: Path) -> Path | None:
    """The folder of good pictures directly in `folder`; UserError where there are several."""
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and is_good(path.name)]
    if len(found) > 1:
        raise UserError(f"{folder} holds {' and '.join(path.name for path in found)}: put good pictures into one")
    return found[0] if found else None


def pictures_by_kind(folder: Path, leave_out: Iterable[str] = ()) -> list[tuple[Path, str]]:
    """Every picture in a folder of folders, with its kind: GOOD, or the name of its folder.

    Folders named in `leave_out` are passed over. UserError where a picture lies in no folder.
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
    """The mask in the folder `place` of the picture that is called `stem`, if there is one."""
    for name in (f"{stem}_mask", stem):
        for suffix in SUFFIXES:
            if (place / f"{name}{suffix}").is_file():
                return (place / f"{name}{suffix}",)
    return ()


def divide(good: list[Path]) -> tuple[list[Path], list[Path]]:
    """Good pictures to fit on and to test on: of every TEST_EVERY in this order, the last is for testing."""
    kept = [path for number, path in enumerate(good, 1) if number % TEST_EVERY]
    return kept, good[TEST_EVERY - 1 :: TEST_EVERY]


def draw(pictures: list[Path], shots: int | None, seed: int) -> list[Path]:
    """`shots` of the pictures, in their order, drawn by `seed`; all of them where it is None.

    Of one seed, those of fewer shots are among those of more.

    Raises:
        UserError: there are fewer than `shots`, or it is below 2.
    """
    if shots is None:
        return pictures
    if not 2 <= shots <= len(pictures):
        raise UserError(f"--shots {shots}: give 2 to {len(pictures)}, the number of good pictures to fit on")
    return [pictures[number] for number in sorted(np.random.default_rng(seed).permutation(len(pictures))[:shots])]


def read_mask(
    picture: LabelledPicture, preprocess: Preprocess, shape: tuple[int, int] | None = None
) -> np.ndarray | None:
    """Ground truth in the map's geometry, bool [height, width]; all False for good pictures, None if not known.

    UserError when a mask is not of the picture's own `shape`, height and width, where that is given. Tiles need it.
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
