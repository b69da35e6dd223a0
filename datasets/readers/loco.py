"""MVTec LOCO AD's layout: as MVTec AD, but each defective picture has a folder of masks, one mask per defect.

CATEGORY/ground_truth/DEFECT/PICTURE/000.png

Its validation/good is not used, because thresholds are computed from the training pictures.
"""

from __future__ import annotations

from pathlib import Path

from deploy.pictures.listing import list_pictures

from .mvtec import MVTec


class LOCO(MVTec):
    """A category of MVTec LOCO AD."""

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        """Whether `folder` has MVTec AD's layout, with masks in folders that are named like test pictures."""
        if not super().is_category(folder):
            return False
        folders = [place for place in (folder / cls.MASKS).glob("*/*") if place.is_dir()]
        kinds = {place.parent.name for place in folders}
        tests = {(kind, path.stem) for kind in kinds for path in (folder / cls.TEST / kind).glob("*")}
        return any((place.parent.name, place.name) in tests for place in folders)

    def masks_of(self, path: Path) -> tuple[Path, ...]:
        """Return all masks of a test picture: the files in the folder that is named like the picture."""
        place = self.folder / self.MASKS / path.relative_to(self.folder / self.TEST).with_suffix("")
        return tuple(list_pictures(place)) if place.is_dir() else ()
