"""Pictures as an endless belt: decoded by worker threads, in order, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, NamedTuple

import cv2
import numpy as np

from .errors import UserError
from .pictures import Picture
from .preprocess import Preprocess


class Loaded(NamedTuple):
    """One decoded picture."""

    name: str
    """Its path, or `picture N` for the N-th array."""
    resized: np.ndarray
    """uint8 RGB with the short side at `resize`; `Preprocess.crop` of it is what the program sees."""


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def picture_name(picture: Picture, index: int) -> str:
    """What a picture is called: its path, or `picture N` for an array."""
    return f"picture {index}" if isinstance(picture, np.ndarray) else str(picture)


def stream(
    pictures: Iterable[Picture],
    preprocess: Preprocess,
    workers: int | None = None,
    on_bad: Callable[[str, UserError], None] | None = None,
) -> Iterator[Loaded]:
    """Decode and resize `pictures` ahead of their use, in the given order.

    `workers` threads (default: one per core; 0 decodes in the caller's thread). A picture that cannot be read raises
    its UserError, or is handed to `on_bad(name, error)` and left out when that is given.
    """
    cv2.setNumThreads(1)  # one picture per thread is faster than one picture on all threads

    def load(index: int, picture: Picture) -> Loaded:
        return Loaded(picture_name(picture, index), preprocess.resized(picture))

    def settle(picture: Picture, index: int, result: Callable[[], Loaded]) -> Iterator[Loaded]:
        try:
            yield result()
        except UserError as error:
            if on_bad is None:
                raise
            on_bad(picture_name(picture, index), error)

    workers = cores() if workers is None else workers
    if workers == 0:
        for index, picture in enumerate(pictures):
            yield from settle(picture, index, lambda index=index, picture=picture: load(index, picture))
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Picture, int, Future[Loaded]]] = deque()
    try:
        for index, picture in enumerate(pictures):
            waiting.append((picture, index, pool.submit(load, index, picture)))
            if len(waiting) > 2 * workers + 1:
                first, number, future = waiting.popleft()
                yield from settle(first, number, future.result)
        while waiting:
            first, number, future = waiting.popleft()
            yield from settle(first, number, future.result)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(loaded: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Group consecutive pictures into lists of `size`, the last one possibly shorter."""
    group: list[Loaded] = []
    for item in loaded:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
