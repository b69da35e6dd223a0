"""A model as the server sees it: a bounded queue, and the thread that takes what waits to the model's process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Callable

from ..errors import UserError, report
from .settings import Job
from .worker import Answer, work

GONE = "the model's process ended while it scored this picture or those beside it; it is started again: send it again"
LOOK = 1.0
"""Seconds between two looks at whether the process still lives."""


@dataclass
class Request:
    """One picture that waits."""

    picture: bytes | bytearray
    heat_map: bool
    answer: Future[Answer] = field(default_factory=Future)


class ServedModel:
    """Starts the process of a model and asks it, a batch at a time.

    Args:
        name: of the model.
        job: what its process does.
        on_batch: called with the number of pictures of every batch.
    """

    def __init__(self, name: str, job: Job, on_batch: Callable[[int], object]) -> None:
        self.name, self.job = name, job
        self.about = ""
        """What the model is, in a line, once it is loaded."""
        self.up = False
        """Whether the process is loaded and lives."""
        self._on_batch = on_batch
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"model {name}", daemon=True)
        self._ended = threading.Event()
        self._process: BaseProcess | None = None
        self._channel: Connection | None = None

    def start(self) -> None:
        """Start the process, which takes seconds; `wait` waits for it."""
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self.job), name=f"model {self.name}", daemon=True)
        with _no_signals():
            self._process.start()
        theirs.close()  # its end is seen when the process has none any more

    def wait(self) -> None:
        """Wait until the model is loaded; UserError when it cannot be."""
        try:
            loaded, told = self._channel.recv()
        except (EOFError, OSError) as error:
            self._stop_process()
            raise UserError(f"the process of model {self.name} ended before it was loaded") from error
        if not loaded:
            self._stop_process()
            raise UserError(told)
        self.about, self.up = told, True

    def serve(self) -> None:
        """Begin to answer; the model must be loaded."""
        self._thread.start()

    @property
    def memory(self) -> int:
        """Bytes that the process holds in memory; 0 where the system does not tell."""
        try:
            told = Path(f"/proc/{self._process.pid}/statm").read_text()
        except (OSError, AttributeError, ValueError):  # it may just be ending
            return 0
        return int(told.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def submit(self, picture: bytes | bytearray, heat_map: bool) -> Future[Answer]:
        """Let a picture wait for its turn."""
        request = Request(picture, heat_map)
        self._queue.put(request)
        return request.answer

    def stop(self) -> None:
        """End the process, when what waits is answered."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stop_process()

    def _run(self) -> None:
        while True:
            ended = self._ended.is_set()
            requests = self._take()
            if requests:
                self._answer(requests)
            elif ended:
                return
            if not self.up or not self._process.is_alive():
                self._start_again()

    def _take(self) -> list[Request]:
        """What waits, up to a batch; after LOOK seconds, nothing."""
        requests: list[Request] = []
        with contextlib.suppress(queue.Empty):
            requests.append(self._queue.get(timeout=0 if self._ended.is_set() else LOOK))
            while len(requests) < self.job.batch_size:
                requests.append(self._queue.get_nowait())
        return [request for request in requests if request.answer.set_running_or_notify_cancel()]

    def _answer(self, requests: list[Request]) -> None:
        self._on_batch(len(requests))
        try:
            self._channel.send([request.heat_map for request in requests])
            for request in requests:
                self._channel.send_bytes(request.picture)
            answers = self._channel.recv()
        except (EOFError, OSError):
            self._stop_process()
            answers = [Answer.of(503, {"detail": GONE})] * len(requests)
        for request, answer in zip(requests, answers):
            request.answer.set_result(answer)

    def _start_again(self) -> None:
        report(f"error: the process of model {self.name} ended; it is started again")
        try:
            self._stop_process()
            self.start()
            self.wait()
        except (UserError, OSError) as error:
            report(f"error: model {self.name}: {error}")

    def _stop_process(self) -> None:
        self.up = False
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.join(LOOK)
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    """Ctrl-C and `kill` of a whole group are the server's: a process that is started here never sees them."""
    resource_tracker.ensure_running()  # which would let them pass again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
