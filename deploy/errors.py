"""Errors of the user, reported in one line; a bug keeps its traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input or option: the message names the file or option, the cause and the cure."""


def report(message: str) -> None:
    """Print `message` on stderr as one line."""
    print(" ".join(str(message).split()), file=sys.stderr, flush=True)


class Skipped(list[str]):
    """Names of the pictures that were skipped."""

    def __call__(self, name: str, error: UserError) -> None:
        """Report why a picture is skipped, and add its name."""
        self.append(name)
        report(f"skipped: {error}")

    def told(self) -> str:
        """Return the end of a line about a fit: how many pictures were skipped; empty if none."""
        return f"; {len(self)} pictures skipped" if self else ""


class Failed(list[str]):
    """Names of the parts of a run that failed while the others continue. If there is one part, its error ends the run.

    Args:
        parts: how many parts the run has.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._parts = parts
        self._told: set[str] = set()

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        """Catch a UserError of the block, report it in one line (the same error only once), and record `name`."""
        try:
            yield
        except UserError as error:
            if self._parts == 1:
                raise
            if str(error) not in self._told:
                report(f"error: {name}: {error}")
            self._told.add(str(error))
            self.append(name)

    def finish(self) -> int:
        """Print which parts failed; return the exit code, 2 if there are any, else 0."""
        if self:
            print(f"not done, see the errors: {len(self)} of {self._parts} ({', '.join(self)})"[:160], flush=True)
        return 2 if self else 0
