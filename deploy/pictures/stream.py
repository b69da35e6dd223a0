"""Background threads with bounded memory: they decode pictures before the program runs, and write results after it.

They are threads and not processes, because processes were no faster (measured with Paddle 3.3.1 on two cores).
`Predictor.run` holds Python's lock, so pictures are decoded between runs, but on all cores, and a run uses all cores
as well.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, NamedTuple, TypeVar

import cv2
import numpy as np

from ..errors import UserError
from .decode import Picture
from .preprocess import Preprocess

MOST_WORKERS = 1024  # limit, since two pictures per worker wait in memory
PREFETCH = 16  # pictures decoded ahead: one or two batches
Item = TypeVar("Item")
Result = TypeVar("Result")


class Loaded(NamedTuple):
    """One decoded picture."""

    name: str
    """Its path, or `picture N` for an array, where N counts all pictures from 0."""
    resized: np.ndarray
    """uint8 RGB, resized; `Preprocess.crop` returns the part of it that is examined."""
    shape: tuple[int, int]
    """Height and width of the picture before resizing."""
    seconds: float
    """Time of decoding and resizing."""


def cores() -> int:
    """Number of processors that this process may use, at least 1.

    If Paddle's launcher started several processes on this machine, it is this process's share.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))


def picture_name(picture: Picture, index: int) -> str:
    """Return a picture's name: its path, or for an array `picture N`, where N is its `index`, from 0."""
    return f"picture {index}" if isinstance(picture, np.ndarray) else str(picture)


def stream(
    pictures: Iterable[Picture],
    preprocess: Preprocess,
    workers: int | None = None,
    on_bad: Callable[[str, UserError], None] | None = None,
) -> Iterator[Loaded]:
    """Decode and resize `pictures` ahead of their use, in the given order.

    `workers` is as in `prefetch`; but tiled pictures, which may be large, are decoded one at a time. For a picture that
    cannot be read, `on_bad(name, error)` is called and the picture is left out; without `on_bad` its UserError is
    raised.
    """

    def loaded(item: tuple[int, Picture]) -> Loaded:
        return load(item[1], preprocess, item[0])

    for (index, picture), result in prefetch(loaded, enumerate(pictures), 0 if preprocess.tiled else workers):
        name = picture_name(picture, index)
        try:
            item = result()
        except UserError as error:
            if on_bad is None:
                raise
            on_bad(name, error)
        else:
            yield item


def load(picture: Picture, preprocess: Preprocess, index: int = 0) -> Loaded:
    """Decode and resize one picture, with the number `index` among all; UserError if it cannot be read."""
    begin = time.perf_counter()
    resized, shape = preprocess.resized_with_shape(picture)
    return Loaded(picture_name(picture, index), resized, shape, time.perf_counter() - begin)


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[tuple[Item, Callable[[], Result]]]:
    """Yield each item, in order, with a function that returns `work(item)` or raises its exception.

    `workers` threads (default: one per core) work ahead of the caller by at most PREFETCH items, or two per thread if
    that is more. With 0 workers, the work runs in the caller's thread. OpenCV and numpy release Python's lock while
    they work.
    """
    cv2.setNumThreads(1)  # decoding one picture per thread is faster than one picture with all threads
    workers = cores() if workers is None else workers
    if not isinstance(workers, int) or not 0 <= workers <= MOST_WORKERS:
        raise UserError(f"--num_workers {workers}: give a whole number from 0 to {MOST_WORKERS}")
    if workers == 0:
        for item in items:
            yield item, partial(work, item)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Item, Callable[[], Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item).result))
            if len(waiting) > max(PREFETCH, 2 * workers):
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class BackgroundTasks:
    """Runs calls in threads while the caller continues; the caller waits when too many calls are pending."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(cores())
        self._running: deque[Future[Any]] = deque()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Run `call(*arguments)` in a thread.

        If an earlier call failed, `submit` raises its error, and the calls that have not started are dropped.
        """
        self._wait_until(2 * cores())
        self._running.append(self._pool.submit(call, *arguments))

    def wait(self) -> None:
        """Wait until all calls are done; raises errors as `submit` does."""
        self._wait_until(0)
        self._pool.shutdown()

    def stop(self) -> None:
        """Drop the calls that have not started, and wait for the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _wait_until(self, allowed: int) -> None:
        try:
            while len(self._running) > allowed or (self._running and self._running[0].done()):
                self._running.popleft().result()
        except BaseException:
            self.stop()
            raise


def check_batch(size: int) -> None:
    """Raise UserError for a number of pictures per run that is not a whole one of at least 1."""
    if not isinstance(size, int) or size < 1:
        raise UserError(f"a batch of {size} pictures: give a whole number of at least 1")


def batches(loaded: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group consecutive pictures, or tiles, into lists of `size`, the last one possibly shorter."""
    check_batch(size)
    group: list[Item] = []
    for item in loaded:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
