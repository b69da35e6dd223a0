"""How a script ends: its exit code, and what it says when it was given something wrong."""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import Callable, NoReturn

from ..errors import UserError, report


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 0 done, 2 bad input (one line on stderr), 1 a bug (traceback), 130 on Ctrl-C.

    Where stdout is closed before the end, as `| head` does it, the run ends there with 141, as other programs do.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        gc.freeze()  # what was imported stays: no look for garbage goes through it, as after each run of the app's page
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        report(f"error: {error}")
        code = 2
    except PermissionError as error:
        if error.filename is None:
            raise
        report(f"error: cannot use {error.filename}: {error.strerror}; allow it, or give another path")
        code = 2
    except KeyboardInterrupt:
        report("interrupted: files written so far are complete, the one in progress was dropped")
        code = 130
    except BrokenPipeError:
        report("error: stopped before the end, since what it prints is not read any more: let its reader run on")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left there is flushed at exit
        code = 141
    gc.freeze()  # or Python, as it ends, looks twice for circles in all that Paddle made: half a second
    sys.exit(code)
