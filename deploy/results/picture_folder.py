"""A folder of heat maps or masks: a new run's take the place of the last run's, and nothing else is touched."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from ..errors import UserError
from ..pictures.mark import is_marked, lies_as_marked
from ..pictures.mark import marked as with_mark
from ..storage.files import fitting_path, make_folder, scratch_folder, write_whole


class PictureFolder:
    """Writes PNG pictures below `folder`, each with the mark of its place.

    Pictures that the same kind of run wrote, and that still are what it wrote, are replaced. All others stay.

    Args:
        folder: made when the first picture is written.
        run: the kind of run.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        self._aside: Path | None = None
        self._written: set[str] = set()

    def collect(self, stack: ExitStack) -> None:
        """Write pictures aside from now on, until `publish`; `stack` removes those that were not published."""
        self._aside = stack.enter_context(scratch_folder(beside=self.folder))

    def write(self, name: str, png: bytes) -> None:
        """Write a PNG file as `{name}.png`, or under a shorter name where the file system has none so long.

        Several threads may write. UserError when the place is taken by what is not ours, or cannot be written.
        """
        place = str(fitting_path(self.folder, f"{name}.png").relative_to(self.folder))
        self._check_free(place)
        write_whole((self._aside or self.folder) / place, with_mark(png, self._mark(place)))
        if self._aside:
            self._written.add(place)

    def publish(self) -> None:
        """Give the collected pictures their places, and remove those that an earlier run wrote and this one did not.

        Raises:
            UserError: a place is taken by what is not ours (then nothing was changed), or cannot be written.
        """
        for place in self._written:
            self._check_free(place)
        try:
            for place in self._former():
                path = self.folder / place
                path.unlink()
                while path.parent != self.folder and not any(path.parent.iterdir()):
                    path = path.parent
                    path.rmdir()
            for place in self._written:
                make_folder((self.folder / place).parent)
                os.replace(self._aside / place, self.folder / place)
        except OSError as error:
            raise UserError(f"cannot write in {self.folder}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Remove `{name}.png` if a run of this kind wrote it, and nothing changed it since; UserError if it stays."""
        if self._is_ours(f"{name}.png"):
            try:
                (self.folder / f"{name}.png").unlink()
            except OSError as error:
                raise UserError(f"cannot remove {self.folder / name}.png: {error.strerror}") from error

    def _former(self) -> list[str]:
        """The places of pictures that an earlier run of this kind wrote and this one did not."""
        found: list[str] = []
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = {str(Path(folder, name).relative_to(self.folder)) for name in files}
            found += filter(self._is_ours, below - self._written)
        return found

    def _is_ours(self, place: str) -> bool:
        return lies_as_marked(self.folder / place, self._mark(place))

    def _check_free(self, place: str) -> None:
        path = self.folder / place
        if os.path.lexists(path) and not self._is_ours(place):
            what = "is of another kind of run, or was changed" if is_marked(path) else "was not written by this program"
            raise UserError(f"{path} {what}: move {self.folder} away, or give another --save_path")

    def _mark(self, place: str) -> str:
        return f"{self.run} {self.folder.name}/{Path(place).as_posix()}"
