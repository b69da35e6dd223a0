"""Errors of the user, reported in one line; a bug keeps its traceback."""

from __future__ import annotations

import sys


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
