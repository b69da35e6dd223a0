"""MVTec AD 2's layout: as MVTec AD, but the test pictures with labels are in test_public, and so are their masks.

CATEGORY/train/good/*.png
CATEGORY/test_public/good/*.png
CATEGORY/test_public/bad/*.png
CATEGORY/test_public/ground_truth/bad/*_mask.png

Its validation/good is not used, and neither are the test pictures whose labels are secret.
"""

from __future__ import annotations

from pathlib import Path

from .mvtec import MASKS, MVTec


class MVTecAD2(MVTec):
    """A category of MVTec AD 2."""

    TEST = "test_public"
    MASKS = f"test_public/{MASKS}"

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        """Whether `folder` has MVTec AD's layout and a folder test_public."""
        return super().is_category(folder) and (folder / cls.TEST).is_dir()
