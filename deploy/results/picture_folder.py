"""A folder of heat maps or masks. Those of a new run replace those of the last run; other files are not touched."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from ..errors import UserError
from ..pictures.mark import is_marked, lies_as_marked
from ..pictures.mark import marked as with_mark
from ..storage.files import fitting_path, make_folder, scratch_folder, write_whole


class PictureFolder:
    """Writes PNG pictures below `folder`, each with a mark (see `deploy.pictures.mark`).

    Pictures that an earlier run of the same kind wrote, and that were not changed since, are replaced. All other files
    stay.

    Args:
        folder: created when the first picture is written.
        run: the kind of run, a word.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        self._aside: Path | None = None
        self._written: set[str] = set()

    def collect(self, stack: ExitStack) -> None:
        """From now on, write pictures to a temporary folder, until `publish`; `stack` removes this folder."""
        self._aside = stack.enter_context(scratch_folder(beside=self.folder))

    def write(self, name: str, png: bytes) -> None:
        """Write a PNG file as `{name}.png`, or with a shorter name if this is too long for the file system.

        Several threads may write. UserError if another file is in the place, or if it cannot be written.
        """
        place = str(fitting_path(self.folder, f"{name}.png").relative_to(self.folder))
        self._check_free(place)
        write_whole((self._aside or self.folder) / place, with_mark(png, self._mark(place)))
        if self._aside:
            self._written.add(place)

    def publish(self) -> None:
        """Move the collected pictures to their places, and remove those that only an earlier run wrote.

        Raises:
            UserError: another file is in a place (then nothing was changed), or a picture cannot be written.
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
        """Remove `{name}.png` if a run of this kind wrote it and it was not changed; UserError if that fails."""
        if self._is_ours(f"{name}.png"):
            try:
                (self.folder / f"{name}.png").unlink()
            except OSError as error:
                raise UserError(f"cannot remove {self.folder / name}.png: {error.strerror}") from error

    def _former(self) -> list[str]:
        """Places of pictures that an earlier run of this kind wrote and this run did not."""
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
