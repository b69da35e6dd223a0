"""Pictures are decoded, and results written, while the caller is busy; failures reach the caller."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy import Preprocess, UserError
from deploy.pictures.decode import decode
from deploy.pictures.stream import PREFETCH, BackgroundTasks, cores, prefetch

pytestmark = pytest.mark.once

PATIENCE = 30  # seconds after which a thread that should have come is missing


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_work_goes_on_while_the_caller_is_busy_on_every_worker(workers: int) -> None:
    together = threading.Barrier(workers)  # passed only by as many threads at once
    done = threading.Semaphore(0)

    def work(item: int) -> int:
        if item < workers:
            together.wait(PATIENCE)
        done.release()
        return -item

    results = prefetch(work, range(100 * workers), workers)
    first, result = next(results)
    for _ in range(2 * workers):  # the caller asks for nothing, and still work is done
        assert done.acquire(timeout=PATIENCE)
    assert (first, result()) == (0, 0)
    results.close()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_no_more_is_taken_than_is_held(workers: int) -> None:
    taken = []

    def items():  # noqa: ANN202
        for number in range(200):
            taken.append(number)
            yield number

    for given, (item, result) in enumerate(prefetch(lambda item: item * item, items(), workers)):
        assert (item, result()) == (given, given * given)
        assert len(taken) - given <= (max(PREFETCH, 2 * workers) + 1 if workers else 1)
    assert given == 199


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()
    results = prefetch(lambda item: item, range(1000), 3)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_background_tasks_run_beside_the_caller_and_block_it_when_behind() -> None:
    tasks, gate, written = BackgroundTasks(), threading.Event(), []

    def write(number: int) -> None:
        assert gate.wait(PATIENCE)
        written.append(number)

    limit = 2 * cores()
    for number in range(limit + 1):
        tasks.submit(write, number)  # none is done, and the caller is not held up
    assert not written
    threading.Timer(0.1, gate.set).start()
    tasks.submit(write, limit + 1)
    assert written  # it waited for one
    tasks.wait()
    assert sorted(written) == list(range(limit + 2))


def test_background_failure_reaches_the_caller() -> None:
    def fail() -> None:
        raise UserError("the disk is full")

    tasks = BackgroundTasks()
    tasks.submit(fail)
    with pytest.raises(UserError, match="full"):
        tasks.wait()
    tasks = BackgroundTasks()
    with pytest.raises(UserError, match="full"):
        for _ in range(2 * cores() + 2):
            tasks.submit(fail)


@pytest.mark.parametrize("shape", [(900, 900), (300, 401), (100, 90), (512, 512), (256, 256)])
def test_files_and_arrays_enter_alike_to_the_byte(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    np.testing.assert_array_equal(decode(tmp_path / "x.png"), picture[..., ::-1])
    np.testing.assert_array_equal(
        Preprocess().resized(tmp_path / "x.png"), Preprocess().resized(picture[..., ::-1].copy())
    )


def test_processes_of_the_launcher_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PADDLE_LOCAL_SIZE", raising=False)
    alone = cores()
    for size in (2, 3 * alone):
        monkeypatch.setenv("PADDLE_LOCAL_SIZE", str(size))
        assert cores() == max(1, alone // size)
