"""MVTec AD's layout, which other data sets use too: BTAD (folders ok and ko), MPDD, users' own pictures.

CATEGORY/train/good/*.png            good pictures to fit on
CATEGORY/test/good/*.png             good pictures to test on
CATEGORY/test/DEFECT/*.png           defective ones, one folder per kind
CATEGORY/ground_truth/DEFECT/*_mask.png   their masks (optional): 0 good, else defect
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from deploy.errors import UserError
from deploy.pictures.listing import list_pictures, walk_pictures

from .category import GOOD, Category, LabelledPicture, good_folder, mask_of, pictures_by_kind

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
GROUPS = {"textures": TEXTURES, "objects": OBJECTS}
"""The categories of MVTec AD that --category may name together."""
MASKS = "ground_truth"


class MVTec(Category):
    """A category with the folders train, test and ground_truth."""

    TEST: ClassVar[str] = "test"
    MASKS: ClassVar[str] = MASKS
    """Folder of the test pictures' masks, below the category."""

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Return `data_path` if it has train/good, else every folder in it that has train/good."""
        if cls.is_category(data_path):
            return [cls(data_path.resolve().name, data_path)]
        return [cls(p.name, p) for p in sorted(data_path.iterdir()) if cls.is_category(p)]

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        """Whether `folder` is a category of this layout."""
        return (folder / "train").is_dir() and good_folder(folder / "train") is not None

    def train_pictures(self) -> list[Path]:
        """Return the pictures of train/good."""
        return list_pictures(good_folder(self.folder / "train") or self.folder / "train" / GOOD)

    def test_pictures(self) -> list[LabelledPicture]:
        """Return the pictures of test, one kind per folder."""
        test = self.folder / self.TEST
        if not test.is_dir():
            raise UserError(
                f"no folder {test}: evaluation needs test/good and test/DEFECT folders; train without --eval"
            )
        kinds = pictures_by_kind(test, leave_out=(MASKS,))
        return [LabelledPicture(path, kind, () if kind == GOOD else self.masks_of(path)) for path, kind in kinds]

    def unused_masks(self) -> list[Path]:
        """Return the masks that belong to no test picture; UserError if there are no test pictures."""
        known = {mask for picture in self.test_pictures() for mask in self.masks_of(picture.path)}
        return sorted(set(walk_pictures(self.folder / self.MASKS)) - known)

    def masks_of(self, path: Path) -> tuple[Path, ...]:
        """Return the mask of a test picture; also from ground_truth/defective/DEFECT, where some tools write it."""
        below, masks = path.relative_to(self.folder / self.TEST).parent, self.folder / self.MASKS
        return mask_of(masks / below, path.stem) or mask_of(masks / "defective" / below, path.stem)
