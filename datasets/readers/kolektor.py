"""KolektorSDD's layout: a folder per item, with pictures of its parts beside their masks.

kos01/Part0.jpg
kos01/Part0_label.bmp     0 good, else defect; all 0 where the part is good

The layout does not define which pictures to fit on. Here the good parts of every fifth item, sorted by name, are for
testing, and those of the other items for fitting. Parts of one item look alike, so they are not divided. All defective
parts are for testing.
"""

from __future__ import annotations

from functools import cached_property
from itertools import groupby
from pathlib import Path

from deploy.errors import UserError
from deploy.pictures.decode import decode_mask

from .category import GOOD, TEST_EVERY, Category, LabelledPicture

LABEL = "_label"


class Kolektor(Category):
    """One category: the folder itself."""

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Return `data_path` if it has items, else every folder in it that has items."""
        if _labels(data_path):
            return [cls(data_path.resolve().name, data_path)]
        return [cls(p.name, p) for p in sorted(data_path.iterdir()) if p.is_dir() and _labels(p)]

    def train_pictures(self) -> list[Path]:
        """Return the good parts of all items except every fifth one."""
        found = [picture.path for picture, tested in self._parts if not (tested or picture.defective)]
        if not found:
            raise UserError(f"{self.folder}: no good part to fit on, that is none whose *{LABEL}.bmp is empty")
        return found

    def test_pictures(self) -> list[LabelledPicture]:
        """Return the good parts of every fifth item, and all defective parts."""
        found = [picture for picture, tested in self._parts if tested or picture.defective]
        return sorted(found, key=lambda picture: (picture.defect != GOOD, picture.path))

    @cached_property
    def _parts(self) -> list[tuple[LabelledPicture, bool]]:
        """Every part, and whether its item is for testing."""
        found = []
        for number, (_, labels) in enumerate(groupby(_labels(self.folder), key=lambda path: path.parent), 1):
            for label in labels:
                stem = label.stem[: -len(LABEL)]
                pictures = [path for path in label.parent.glob(f"{stem}.*") if path != label]
                if len(pictures) != 1:
                    raise UserError(f"{label} is the mask of {len(pictures)} pictures: there must be one, {stem}.jpg")
                defective = bool(decode_mask(label).any())
                picture = LabelledPicture(pictures[0], "defect" if defective else GOOD, (label,) if defective else ())
                found.append((picture, number % TEST_EVERY == 0))
        return found


def _labels(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/Part*{LABEL}.bmp"))
