"""MVTec AD 2's layout: MVTec AD's, but what may be tested on is test_public, and its masks lie in it.

CATEGORY/train/good/*.png
CATEGORY/test_public/good/*.png
CATEGORY/test_public/bad/*.png
CATEGORY/test_public/ground_truth/bad/*_mask.png

Its validation/good is left out, and so are the tests whose labels are secret.
"""

from __future__ import annotations

from pathlib import Path

from .mvtec import MASKS, MVTec


class MVTecAD2(MVTec):
    """A public test."""

    TEST = "test_public"
    MASKS = f"test_public/{MASKS}"

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        """Whether it has a test_public."""
        return super().is_category(folder) and (folder / cls.TEST).is_dir()
