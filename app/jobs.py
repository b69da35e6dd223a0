"""Background jobs for work that takes long. Only one job runs at a time, for all visitors together."""

from __future__ import annotations

import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

from deploy.errors import UserError

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
# one worker, because a program uses all cores, and because Paddle is then used from one thread only
_WORKER = ThreadPoolExecutor(1, thread_name_prefix="paddlepatch")


class Stopped(Exception):
    """Raised in a job whose visitor is gone."""


class Job:
    """A job in the background.

    Args:
        what: key of its text in `app.texts`.
        work: the work, called with a function for lines of progress; this function raises Stopped after `stop`.
    """

    def __init__(self, what: str, work: Callable[[Callable[[str], None]], None]) -> None:
        self.what, self.state, self.error = what, WAITING, ""
        self.lines: list[str] = []
        self.begun: float | None = None
        self._work, self._stopped = work, False
        self._future = _WORKER.submit(self._run)

    @property
    def over(self) -> bool:
        """Whether it has ended, with or without an error."""
        return self.state in (DONE, FAILED)

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return 0.0 if self.begun is None else time.monotonic() - self.begun

    def stop(self, then: Callable[[], None]) -> None:
        """Stop the job at its next line of progress; call `then` when it has ended."""
        self._stopped = True
        self._future.add_done_callback(lambda _: then())

    def _log(self, line: str) -> None:
        if self._stopped:
            raise Stopped
        self.lines.append(line)

    def _run(self) -> None:
        self.state, self.begun, state = RUNNING, time.monotonic(), FAILED
        try:
            if not self._stopped:
                self._work(self._log)
            state = DONE
        except UserError as error:
            self.error = str(error)
        except Stopped:
            pass
        except Exception:  # a bug: the server prints the traceback, and the visitor is told that there is a bug
            traceback.print_exc()
            self.error = "?"
        finally:
            self.state = state
