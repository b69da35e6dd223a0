"""A headless Chromium, the app's own server, and where pictures of what they show are kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 180_000  # ms: machines may be busy
OWN = ("127.0.0.1", "localhost")


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; needs playwright and CHROMIUM."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        rights = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        started = driver.chromium.launch(executable_path=CHROMIUM, args=rights)
        yield started
        started.close()


@contextmanager
def app_server(place: Path, *options: object) -> Iterator[SimpleNamespace]:
    """`python -m app`: `.address`, the process, its `.log`, and `.folder`, where it keeps visitors' files."""
    with socket.socket() as free:
        free.bind((OWN[0], 0))
        port = free.getsockname()[1]
    folder, log = place / "temporary", place / "log"
    folder.mkdir()
    env = {**os.environ, "TMPDIR": str(folder), "HOME": str(place)}
    with open(log, "w") as file:
        command = [sys.executable, "-m", "app", "--port", str(port), *map(str, options)]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + PATIENCE / 1000
        while True:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            try:
                socket.create_connection((OWN[0], port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield SimpleNamespace(address=f"http://{OWN[0]}:{port}/", process=process, folder=folder, log=log)
    finally:
        process.kill()
        process.wait()


def keep_screenshot(page: Any, name: str) -> None:
    """Keep what a page shows, for people to look at after the tests: below $SCREENSHOTS, else .ci/screenshots."""
    folder = Path(os.environ.get("SCREENSHOTS") or ROOT / ".ci/screenshots")
    page.screenshot(path=folder / f"{name}.png")
