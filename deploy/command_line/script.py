"""How a script ends: its exit code, and what it says when it was given something wrong."""

from __future__ import annotations

import io
import sys
from typing import Callable, NoReturn

from ..errors import UserError, report


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 0 done, 2 bad input (one line on stderr), 1 a bug (traceback), 130 on Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
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
