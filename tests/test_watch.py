"""The folder service: every picture exactly once, whatever happens to the process."""

from __future__ import annotations

import csv
import errno
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, refused
from warm_python import WarmPython

from deploy.errors import UserError
from deploy.results import watch as service
from deploy.results.watch import Journal, arrivals, finished

pytestmark = pytest.mark.once
PICTURES, KILLS = 300, 20


class Service:
    """infer.py --watch in a process of its own."""

    def __init__(self, warm: WarmPython, export: Path, folder: Path, out: Path) -> None:
        words = ["infer.py", "--stats", export / "stats", "--watch", folder, "--save_path", out, "--save_pic", "False"]
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._process = warm.start(words, ROOT, [0, *(file.fileno() for file in self._files)])
        self.send_signal = self._process.send_signal

    def until_it_watches(self) -> None:
        """Wait for its first line: what it does with a signal before that is Python's own."""
        deadline = time.monotonic() + 60
        while os.fstat(self._files[0].fileno()).st_size == 0 and time.monotonic() < deadline:
            time.sleep(0.05)

    def end(self) -> subprocess.CompletedProcess:
        """Wait for its end."""
        code = self._process.wait(timeout=30)
        for file in self._files:
            file.seek(0)
        return subprocess.CompletedProcess("infer.py --watch", code, *(file.read().decode() for file in self._files))


def lines(out: Path) -> list[list[str]]:
    table = out / "watch.csv"
    return list(csv.reader(table.read_text().splitlines()))[1:] if table.is_file() else []


def test_nothing_is_lost_or_repeated_by_kill_9(trained: SimpleNamespace, tmp_path: Path, warm: WarmPython) -> None:
    folder, out, rng = tmp_path / "arriving", tmp_path / "out", random.Random(4)
    folder.mkdir()
    source = sorted((trained.data / "washer/test").rglob("*.png"))
    service, arrived, killed = Service(warm, trained.export, folder, out), 0, 0
    try:
        while arrived < PICTURES or killed < KILLS:
            for _ in range(min(15, PICTURES - arrived)):
                data = source[arrived % len(source)].read_bytes()
                with open(folder / f"{arrived:04d}.png", "wb") as file:  # in two parts, as a slow camera writes
                    file.write(data[: len(data) // 2])
                    file.flush()
                    time.sleep(0.002)
                    file.write(data[len(data) // 2 :])
                arrived += 1
            if killed < KILLS:
                time.sleep(rng.uniform(0.05, 0.8))
                service.send_signal(signal.SIGKILL)
                assert service.end().returncode == -signal.SIGKILL
                killed += 1
                service = Service(warm, trained.export, folder, out)
        deadline = time.monotonic() + 120
        while len(lines(out)) < PICTURES and time.monotonic() < deadline:
            time.sleep(0.05)
        service.until_it_watches()
    finally:
        service.send_signal(signal.SIGINT)
    assert service.end().returncode == 0
    rows = lines(out)
    assert len(rows) == PICTURES
    assert sorted(Path(row[0]).name for row in rows) == [f"{i:04d}.png" for i in range(PICTURES)]
    scores = {}
    for row in rows:  # copies of one picture have one score, whoever scored them
        scores.setdefault(int(Path(row[0]).stem) % len(source), set()).add(row[1])
    assert all(len(found) == 1 and "" not in found for found in scores.values())


def test_one_service_per_table_that_ends_when_told_and_gives_bad_pictures_a_line(
    trained: SimpleNamespace, tmp_path: Path, warm: WarmPython
) -> None:
    folder, out = tmp_path / "arriving", tmp_path / "out"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    shutil.copy(next((trained.data / "washer/test").rglob("*.png")), folder / "good.png")
    service = Service(warm, trained.export, folder, out)
    try:
        deadline = time.monotonic() + 60
        while len(lines(out)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        refused(Service(warm, trained.export, folder, out).end(), "another process")
    finally:
        service.send_signal(signal.SIGTERM)
    result = service.end()
    assert result.returncode == 0 and "2 pictures" in result.stdout and "bad.png" in result.stderr
    assert [(Path(row[0]).name, bool(row[1])) for row in lines(out)] == [("good.png", True), ("bad.png", False)]


def test_a_line_cut_short_is_removed_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    journal = Journal(path, ("path", "score"))
    journal.add(("a,b.png", 1))
    journal.add(("c.png", 2))
    with pytest.raises(UserError, match="another process"):
        Journal(path, ("path", "score"))
    journal.close()
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        again = Journal(path, ("path", "score"))
        for row in (("a,b.png", 1), ("c.png", 2)):
            if row[0] not in again.done:
                again.add(row)
        again.close()
        assert path.read_bytes() == whole
    with pytest.raises(UserError, match="another program"):
        Journal(path, ("name", "score"))


def test_a_heat_map_is_there_before_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash between both, a picture with a line would never be drawn."""
    table, drawn, folder = tmp_path / "watch.csv", [], tmp_path.resolve()

    def draw(prediction: str, name: str) -> None:
        assert name not in table.read_text()
        drawn.append(name)

    sheet = SimpleNamespace(path=table, columns=("path", "score"), draw=draw, row=lambda prediction: (prediction, 1))
    predictor = SimpleNamespace(predict=lambda paths, workers: [str(path) for path in paths])
    monkeypatch.setattr(service, "Stop", lambda: False)
    monkeypatch.setattr(service, "arrivals", lambda *_: [(folder / name, True) for name in ("a.png", "b/c.png")])
    assert service.watch(tmp_path, predictor, sheet) == 0
    assert drawn == ["a.png", "b/c.png"] and table.read_text().count(",1") == 2


def test_the_oldest_comes_first_and_what_has_not_changed_for_long_settled(tmp_path: Path) -> None:
    now = time.time()
    for name, age in {"a.png": 2, "b.png": 100, "c.png": 50, "done.png": 70}.items():
        (tmp_path / name).write_bytes(b"1")
        os.utime(tmp_path / name, (now - age, now - age))
    found = list(islice(arrivals(tmp_path, {str(tmp_path / "done.png")}, False), 3))
    assert [(path.name, settled) for path, settled in found] == [("b.png", True), ("c.png", True), ("a.png", False)]


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(place: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match="^--watch .*: Permission denied; allow it to be read$"):
        next(arrivals(tmp_path, set(), False))


def test_what_is_unfinished(tmp_path: Path, trained: SimpleNamespace) -> None:
    data = next((trained.data / "washer/test").rglob("*.png")).read_bytes()
    path = tmp_path / "a.png"
    for end, whole in ((len(data), True), (len(data) - 1, False), (100, False), (0, False)):
        path.write_bytes(data[:end])
        assert finished(path) is whole
    assert not finished(tmp_path / "gone.png")
