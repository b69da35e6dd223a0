"""Data sets in MVTec AD's layout, MVTec's own or anybody's.

CATEGORY/train/good/*.png            good pictures to fit on
CATEGORY/test/good/*.png             good pictures to test on
CATEGORY/test/DEFECT/*.png           defective ones, one folder per kind
CATEGORY/ground_truth/DEFECT/*_mask.png   their masks (optional): 0 good, else defect
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.errors import UserError, report
from deploy.pictures.decode import decode_mask
from deploy.pictures.listing import SUFFIXES, list_pictures
from deploy.pictures.preprocess import Preprocess

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)
GOOD = "good"
SOUNDS_GOOD = {"ok", "okay", "normal", "pass", "passed", "nominal", "io", "non_defective", "no_defect"}
"""Names of folders that may mean good pictures: they count as a kind of defect, and we say so."""


@dataclass(frozen=True)
class LabelledPicture:
    """One test picture with its label."""

    path: Path
    defect: str
    """`good`, or the kind of defect."""
    mask: Path | None
    """Where its defect is marked; None for good pictures and where there is no mask."""

    @property
    def defective(self) -> bool:
        """Whether the picture shows a defect."""
        return self.defect != GOOD


@dataclass(frozen=True)
class Category:
    """One product: a folder of pictures."""

    name: str
    folder: Path

    def train_pictures(self) -> list[Path]:
        """The good pictures to fit on, sorted; UserError when there are none."""
        return list_pictures(good_folder(self.folder / "train") or self.folder / "train" / GOOD)

    def test_pictures(self) -> list[LabelledPicture]:
        """The pictures to test on, sorted by kind and name; UserError when there are none."""
        test = self.folder / "test"
        if not test.is_dir():
            raise UserError(
                f"no folder {test}: evaluation needs test/good and test/DEFECT folders; train without --eval"
            )
        kinds = pictures_by_kind(test)
        return [LabelledPicture(path, kind, None if kind == GOOD else self._mask(path)) for path, kind in kinds]

    def _mask(self, path: Path) -> Path | None:
        relative = path.relative_to(self.folder / "test")
        place = self.folder / "ground_truth" / relative.parent
        for stem in (f"{path.stem}_mask", path.stem):
            for suffix in SUFFIXES:
                if (place / f"{stem}{suffix}").is_file():
                    return place / f"{stem}{suffix}"
        return None


def pictures_by_kind(folder: Path) -> list[tuple[Path, str]]:
    """Every picture in a folder of folders, with the name of its one; UserError where a picture lies in none.

    `Good` and the like are `good`.
    """
    found = []
    for path in list_pictures(folder):
        kind = path.relative_to(folder).parts[0]
        if kind == path.name:
            raise UserError(f"{path} lies in no folder of its kind: move it to {folder}/good or {folder}/DEFECT")
        found.append((path, GOOD if _means_good(kind) else kind))
    doubtful = sorted({kind for _, kind in found if kind.strip().lower().replace("-", "_") in SOUNDS_GOOD})
    if doubtful:
        report(
            f"note: {folder}: {', '.join(doubtful)} counts as a kind of defect; call the folder {GOOD} if it is none"
        )
    return found


def good_folder(place: Path) -> Path | None:
    """The folder of good pictures in `place`: `good`, or the same in other letters (`Good`)."""
    if (place / GOOD).is_dir() or not place.is_dir():
        return place / GOOD if place.is_dir() else None
    return next((path for path in sorted(place.iterdir()) if path.is_dir() and _means_good(path.name)), None)


def _means_good(name: str) -> bool:
    return name.strip().lower() == GOOD


def find_categories(data_path: str | Path) -> list[Category]:
    """Every category below `data_path`: a folder that holds train/good. UserError when there is none."""
    data_path = Path(data_path)
    if not data_path.is_dir():
        raise UserError(f"--data_path {data_path}: no such folder; give the one that holds the categories")
    found = [Category(p.name, p) for p in sorted(data_path.iterdir()) if good_folder(p / "train")]
    if not found:
        cure = f"; did you mean --data_path {data_path.parent}?" if good_folder(data_path / "train") else ""
        raise UserError(f"--data_path {data_path}: no category in it, that is no folder with train/good{cure}")
    return found


def select_categories(data_path: str | Path, selection: str) -> list[Category]:
    """Categories by `NAME[,NAME...]`, `all` that are there, or MVTec's `textures` or `objects` that are there."""
    found = {category.name: category for category in find_categories(data_path)}
    groups = {"all": tuple(found), "textures": TEXTURES, "objects": OBJECTS}
    if selection in groups:
        chosen = [found[name] for name in groups[selection] if name in found]
        if not chosen:
            raise UserError(f"--category {selection}: none of them in {data_path}; it holds {', '.join(found)}")
        return chosen
    names = [name.strip() for name in selection.split(",") if name.strip()]
    for name in names:
        if name not in found:
            raise UserError(f"--category {name}: no such category in {data_path}; it holds {', '.join(found)}")
    if not names:
        raise UserError("--category is empty: give NAME[,NAME...], all, textures or objects")
    return [found[name] for name in dict.fromkeys(names)]


def read_mask(
    picture: LabelledPicture, preprocess: Preprocess, shape: tuple[int, int] | None = None
) -> np.ndarray | None:
    """Ground truth in the program's geometry, bool [height, width]; all False for good pictures, None if not known.

    UserError when the mask is not of the picture's own `shape`, height and width, where that is given.
    """
    if not picture.defective:
        return np.zeros(preprocess.size, bool)
    if picture.mask is None:
        return None
    mask = decode_mask(picture.mask)
    if shape is not None and mask.shape != tuple(shape):
        raise UserError(
            f"mask {picture.mask} has {mask.shape[1]} x {mask.shape[0]} pixels, its picture {picture.path} "
            f"{shape[1]} x {shape[0]}: give the mask in the picture's own size"
        )
    return preprocess.crop(preprocess.resized_mask(mask))
