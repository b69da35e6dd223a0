"""Plain folders: good pictures and, if there are any, defective ones.

gasket/good/*.png, gasket/ok/*.png   good pictures
gasket/ANYTHING/*.png                defective ones, one folder per kind
gasket/masks/KIND/*.png              their masks (optional), called like the picture or PICTURE_mask; or ground_truth/

Or pictures directly in a folder, which are all good. If there are defective pictures, every fifth good picture, sorted
by name, is for testing; else all good pictures are for fitting.
"""

from __future__ import annotations

from pathlib import Path

from deploy.errors import UserError
from deploy.pictures.listing import SUFFIXES, list_pictures, walk_pictures

from .category import GOOD, Category, LabelledPicture, divide, good_folder, mask_of, pictures_by_kind

MASKS = ("masks", "ground_truth")


class Plain(Category):
    """A category with one folder per kind of picture, or with good pictures directly in its folder."""

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Return `data_path` if it has pictures or a folder of good ones, else its folders with such a folder."""
        if not data_path.is_dir():
            return []
        if good_folder(data_path) or _direct(data_path):
            return [cls(data_path.resolve().name, data_path)]
        return [cls(p.name, p) for p in sorted(data_path.iterdir()) if p.is_dir() and good_folder(p)]

    def train_pictures(self) -> list[Path]:
        """Return the good pictures, without those to test on."""
        good = self._good()
        return divide(good)[0] if self._defective() else good

    def test_pictures(self) -> list[LabelledPicture]:
        """Return every fifth good picture, and all defective pictures."""
        defective = self._defective()
        if not defective:
            raise UserError(f"{self.folder} holds good pictures alone: without defective ones there is nothing to test")
        return [LabelledPicture(path, GOOD) for path in divide(self._good())[1]] + defective

    def unused_masks(self) -> list[Path]:
        """Return the masks that belong to no picture."""
        pictures = [*self._good(), *(picture.path for picture in self._defective())]
        known = {mask for path in pictures for mask in self._masks(path)}
        return sorted({path for place in MASKS for path in walk_pictures(self.folder / place)} - known)

    def _good(self) -> list[Path]:
        folder = good_folder(self.folder)
        if folder is not None:
            return list_pictures(folder)
        if any(path.is_dir() for path in self.folder.iterdir() if not path.name.startswith(".")):
            raise UserError(
                f"{self.folder} holds pictures and folders: move the good pictures to {self.folder}/good, "
                "or give a folder with pictures alone"
            )
        return list_pictures(self.folder)

    def _defective(self) -> list[LabelledPicture]:
        if good_folder(self.folder) is None:
            return []
        kinds = pictures_by_kind(self.folder, leave_out=MASKS)
        return [LabelledPicture(path, kind, self._masks(path)) for path, kind in kinds if kind != GOOD]

    def _masks(self, path: Path) -> tuple[Path, ...]:
        below = path.relative_to(self.folder).parent
        found = (mask_of(self.folder / place / below, path.stem) for place in MASKS)
        return next((masks for masks in found if masks), ())


def _direct(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir())
