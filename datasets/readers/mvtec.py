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

from deploy.errors import UserError
from deploy.pictures.decode import decode
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

    def train_pictures(self, shots: int | None = None, seed: int = 0) -> list[Path]:
        """The good pictures to fit on, sorted: all, or `shots` of them, drawn by `seed`.

        Of one seed, those of fewer shots are among those of more.

        Raises:
            UserError: there are none, or fewer than `shots`.
        """
        folder = self.folder / "train" / GOOD
        found = list_pictures(folder)
        if shots is None:
            return found
        if not 2 <= shots <= len(found):
            raise UserError(f"--shots {shots}: give 2 to {len(found)}, the number of pictures in {folder}")
        return [found[number] for number in sorted(np.random.default_rng(seed).permutation(len(found))[:shots])]

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
    """Every picture in a folder of folders, with the name of its one; UserError where a picture lies in none."""
    found = []
    for path in list_pictures(folder):
        kind = path.relative_to(folder).parts[0]
        if kind == path.name:
            raise UserError(f"{path} lies in no folder of its kind: move it to {folder}/good or {folder}/DEFECT")
        found.append((path, kind))
    return found


def find_categories(data_path: str | Path) -> list[Category]:
    """Every category below `data_path`: a folder that holds train/good. UserError when there is none."""
    data_path = Path(data_path)
    if not data_path.is_dir():
        raise UserError(f"--data_path {data_path}: no such folder; give the one that holds the categories")
    found = [Category(p.name, p) for p in sorted(data_path.iterdir()) if (p / "train" / GOOD).is_dir()]
    if not found:
        cure = f"; did you mean --data_path {data_path.parent}?" if (data_path / "train" / GOOD).is_dir() else ""
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


def read_mask(picture: LabelledPicture, preprocess: Preprocess) -> np.ndarray | None:
    """Ground truth in the program's geometry, bool [height, width]; all False for good pictures, None if not known."""
    if not picture.defective:
        return np.zeros(preprocess.size, bool)
    if picture.mask is None:
        return None
    return preprocess.crop(preprocess.resized_mask(decode(picture.mask, grey=True)))
