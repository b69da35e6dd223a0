"""What a user did wrong, told in one line; what we did wrong, told in a traceback."""

from __future__ import annotations

import sys
from typing import Callable, NoReturn


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


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 0 done, 2 bad input (one line on stderr), 1 a bug (traceback), 130 on Ctrl-C."""
    try:
        code = main() or 0
    except UserError as error:
        report(f"error: {error}")
        code = 2
    except KeyboardInterrupt:
        report("interrupted: files written so far are complete, the one in progress was dropped")
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)
