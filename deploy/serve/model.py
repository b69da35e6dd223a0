"""The server's side of a model process: a queue of requests, and a thread that sends them to the process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from ..errors import UserError, report
from .scorer import Answer
from .settings import Job
from .shelf import Load
from .worker import work

GONE = "the model's process ended while it scored this picture or those beside it; it is started again: send it again"
LOOK = 1.0
"""Seconds between two checks whether the process is alive."""


@dataclass(eq=False)
class Request:
    """A picture that waits to be scored."""

    model: str
    picture: bytes | bytearray
    heat_map: bool
    answer: Future[Answer] = field(default_factory=Future)


class Observer(Protocol):
    """An object that is told what a process does, such as `Metrics`."""

    def on_batch(self, model: str, pictures: int) -> None:
        """Called before `pictures` pictures are scored in one run."""

    def on_load(self, model: str, load: Load) -> None:
        """Called after the model was loaded."""


class ModelProcess:
    """Starts a process for one model or several, and sends it the waiting pictures in batches.

    Args:
        name: name of the process: that of its model, or of the folder of models.
        jobs: the jobs by their models' names.
        most: largest number of models that are loaded at a time.
        observer: called for batches and loads.
    """

    def __init__(self, name: str, jobs: Mapping[str, Job], most: int, observer: Observer) -> None:
        self.name, self.jobs, self.most = name, jobs, most
        self.about: dict[str, str] = {}
        """A description of each model in one line, once the process has started."""
        self.up = False
        """Whether the process answers."""
        self.loaded: set[str] = set()
        """Names of the loaded models."""
        self._batch_size = next(iter(jobs.values())).batch_size
        self._observer = observer
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._waiting: deque[Request] = deque()
        """Requests that were taken out of the queue but are for another model than the batch answered then."""
        self._thread = threading.Thread(target=self._run, name=f"models {name}", daemon=True)
        self._ended = threading.Event()
        self._process: BaseProcess | None = None
        self._channel: Connection | None = None

    def start(self) -> None:
        """Start the process, which takes seconds; `wait` waits until it is ready."""
        self.loaded.clear()
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self.jobs, self.most), daemon=True)
        with _no_signals():
            self._process.start()
        theirs.close()  # so that the channel ends when the process, which has the only other copy, ends

    def wait(self) -> None:
        """Wait until the process is ready; a single model is then loaded. UserError if this fails."""
        try:
            well, told, load = self._channel.recv()
        except (EOFError, OSError) as error:
            self._stop_process()
            raise UserError(f"the process of model {self.name} ended before it was loaded") from error
        if not well:
            self._stop_process()
            raise UserError(told)
        self._note(next(iter(self.jobs)), load)
        self.about, self.up = told, True

    def serve(self) -> None:
        """Start the thread that answers requests; the process must be ready."""
        self._thread.start()

    @property
    def memory(self) -> int:
        """Resident memory of the process in bytes; 0 if it is not known."""
        try:
            told = Path(f"/proc/{self._process.pid}/statm").read_text()
        except (OSError, AttributeError, ValueError):  # the process may be ending just now
            return 0
        return int(told.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def submit(self, model: str, picture: bytes | bytearray, heat_map: bool) -> Future[Answer]:
        """Put a picture into the queue; return the future answer."""
        request = Request(model, picture, heat_map)
        self._queue.put(request)
        return request.answer

    def stop(self) -> None:
        """Answer all waiting requests, then end the process."""
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
            elif ended and not self._waiting:
                return
            if not self.up or not self._process.is_alive():
                self._start_again()

    def _take(self) -> list[Request]:
        """Take the next batch: the longest-waiting request and others for its model; empty after LOOK seconds."""
        with contextlib.suppress(queue.Empty):
            if not self._waiting:
                self._waiting.append(self._queue.get(timeout=0 if self._ended.is_set() else LOOK))
            while True:
                self._waiting.append(self._queue.get_nowait())
        alike = [request for request in self._waiting if request.model == self._waiting[0].model]
        requests = alike[: self._batch_size]
        self._waiting = deque(request for request in self._waiting if request not in requests)
        return [request for request in requests if request.answer.set_running_or_notify_cancel()]

    def _answer(self, requests: list[Request]) -> None:
        model, load = requests[0].model, None
        self._observer.on_batch(model, len(requests))
        try:
            self._channel.send((model, [request.heat_map for request in requests]))
            for request in requests:
                self._channel.send_bytes(request.picture)
            answers, load = self._channel.recv()
        except (EOFError, OSError):
            self._stop_process()
            answers = [Answer.of(503, {"detail": GONE})] * len(requests)
        self._note(model, load)
        for request, answer in zip(requests, answers):
            request.answer.set_result(answer)

    def _note(self, model: str, load: Load | None) -> None:
        if load is not None:
            self.loaded = self.loaded - set(load.dropped) | {model}
            self._observer.on_load(model, load)

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
    """A process that is started in this context ignores Ctrl-C and `kill`: only the server handles them."""
    resource_tracker.ensure_running()  # started before, because starting it would unblock the signals again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
