"""Detection of dead processes in a job: each increments its own counter in the job's store and reads the next one's."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import threading
import time
from typing import NoReturn

from paddle.base import core

from deploy.errors import report

BEAT = 2.0  # seconds between two increments
SILENT = 30.0
"""Seconds after which a rank counts as dead if its counter does not change. A run of a large program holds Python's
lock, and so delays the counter, for some seconds."""
REASON = 8.0  # seconds to wait after a broken connection, in which another rank may report the reason
AGAIN = "start the same command again: finished categories are kept"


class Watch:
    """Increments this rank's counter, and ends the process with one line if another rank has failed or is silent.

    There are two threads. The first one asks the store, which is in the process of rank 0, and may hang if that host is
    gone. The second one checks how long ago the first one got an answer, and handles the launcher's SIGTERM.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._own, self._meetings = _store(), _store()  # two connections, each used by one thread
        self._next = (rank + 1) % size
        self._answered = self._counted = time.monotonic()
        self._count = self._met = 0
        self._stop, self._ending = threading.Event(), threading.Lock()
        self._wake, wake = socket.socketpair()
        wake.setblocking(False)
        self._keep = wake
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)  # a thread reads it, even while the main one waits in C++
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()
        threading.Thread(target=self._look, daemon=True).start()

    def meet(self) -> None:
        """Barrier: wait until all ranks have called this as often as this rank."""
        self._met += 1
        name, wait = f"meeting/{self._met}", 0.001
        try:
            here = self._meetings.add(name, 1)
            while here < self.size:
                time.sleep(wait)
                wait = min(2 * wait, 0.2)
                here = self._meetings.add(name, 0)
        except Exception as error:  # Paddle raises whatever type its C++ error has
            self.broken(error)

    def broken(self, error: Exception) -> NoReturn:
        """End the process because an exchange failed, with the reason that another rank reports, if one does."""
        time.sleep(REASON)  # meanwhile another thread ends the process if a rank reports a reason
        found = re.search(r"pair_rank = (\d+)", str(error))
        who = f"rank {found[1]}" if found else "another rank"
        self._end(f"the connection to {who} is broken: it has died, or its host or network; {AGAIN}")

    def fail(self, text: str) -> None:
        """Report to the other ranks why this rank ends."""
        self._stop.set()
        try:
            self._tell(self._meetings, text)
            if self.rank == 0:  # the store ends with this process, so the others must have read the reason before
                self._wait_for("told", self.size - 1, 3 * BEAT + 1)
        except Exception:
            pass

    def leave(self) -> None:
        """Wait until all ranks are done, then stop watching."""
        self.meet()
        self._stop.set()
        self._asking.join()
        try:
            self._meetings.add("left", 1)
            if self.rank == 0:
                self._wait_for("left", self.size, SILENT)
        except Exception:
            pass

    def _wait_for(self, name: str, count: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._meetings.add(name, 0) < count and time.monotonic() < until:
            time.sleep(0.05)

    @staticmethod
    def _tell(store: core.TCPStore, text: str) -> None:
        if store.add("failures", 1) == 1:
            store.set("failure", text.encode())
            store.add("failed", 1)

    def _ask(self) -> None:
        """Thread: increment the own counter and check the next rank's counter, until stopped."""
        store = self._own
        while not self._stop.wait(BEAT):
            try:
                store.add(f"alive/{self.rank}", 1)
                count, failed = store.add(f"alive/{self._next}", 0), store.add("failed", 0)
                text = store.get("failure").decode() if failed else ""
                if failed:
                    store.add("told", 1)
            except Exception:
                self._end(f"rank 0, which joins the others, has ended; {AGAIN}")
            now = time.monotonic()
            self._answered = now
            if count != self._count:
                self._count, self._counted = count, now
            if failed:
                self._end(text)
            if now - self._counted > SILENT:
                text = f"rank {self._next} has not been heard of for {SILENT:.0f} s; {AGAIN}"
                self._tell(store, text)
                self._end(text)

    def _look(self) -> None:
        """Thread: end the process if the store has not answered for SILENT seconds, or if the launcher ends it."""
        while not self._stop.is_set():
            ready, _, _ = select.select([self._wake], [], [], BEAT)
            if ready and signal.SIGTERM in self._wake.recv(64):
                self._end(f"rank {self.rank} was told to end, as the launcher does when another rank has; {AGAIN}")
            if time.monotonic() - self._answered > SILENT:
                self._end(f"rank 0 has not been heard of for {SILENT:.0f} s; {AGAIN}")

    def _end(self, text: str) -> NoReturn:
        """Print the line and end the process; works from any thread."""
        with self._ending:
            report(f"error: {text}")
            sys.stdout.flush()
            os._exit(2)


def _store() -> core.TCPStore:
    """Open a new connection to the store that `init_parallel_env` has opened."""
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not (host and port):
        first = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0]
        host, port = os.environ.get("PADDLE_MASTER", first).split(":")
    return core.TCPStore(host, int(port), False, 0, int(SILENT))
