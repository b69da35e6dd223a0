"""The end of a script: its exit code, and one line for an error of the user."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from typing import Callable, NoReturn

from ..errors import UserError, report


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 0 done, 2 bad input (one line on stderr), 1 a bug (traceback), 130 on Ctrl-C.

    If stdout is closed before the end, for example by `| head`, the run ends with 141, like other programs. SIGTERM
    ends it at once and without a word.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # so Python was told, but Paddle's handler, in C++, is there
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not so in a notebook
            stream.reconfigure(errors="backslashreplace")  # names of files may not be valid text
    try:
        gc.freeze()  # imported modules stay in memory, so garbage collection (after each run of the app) may skip them
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the rest of the buffer, flushed at exit
        code = 141
    gc.freeze()  # else Python collects garbage twice at its end, among all objects of Paddle: half a second
    sys.exit(code)
