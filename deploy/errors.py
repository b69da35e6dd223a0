"""What a user did wrong, told in one line; what we did wrong, told in a traceback."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Bad input or option: the message names the file or option, the cause and the cure."""


def report(message: str) -> None:
    """Print `message` on stderr as one line."""
    print(" ".join(str(message).split()), file=sys.stderr, flush=True)


class Skipped(list):
    """The names of the pictures that were left out."""

    def __call__(self, name: str, error: UserError) -> None:
        """Say why a picture is left out and add its name."""
        self.append(name)
        report(f"skipped: {error}")
