"""Running the scripts of the project: in this process, which saves starting Python and Paddle, or in their own."""

from __future__ import annotations

import gc
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run_process(script: str, *words: object, cwd: Path = ROOT, env: dict[str, str] | None = None, **more: Any):  # noqa: ANN201
    """Run a script in a process of its own, as a user does; `more` is for `subprocess.run`."""
    command = [sys.executable, *(["-m", script[3:]] if script.startswith("-m ") else [script]), *map(str, words)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, **more)


def run(script: str, *words: object, cwd: Path = ROOT, env: dict[str, str] | None = None):  # noqa: ANN201
    """Run a script in this process, from its first line to its exit code, with stdout and stderr caught from below.

    Whatever the script changes outside of itself is put back, so that it meets what a new process would.
    """
    name = script[3:] if script.startswith("-m ") else script
    arguments = [name, *map(str, words)]
    with caught() as said, surroundings(arguments, cwd, env or {}):
        try:
            if script.startswith("-m "):
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(cwd / script), run_name="__main__")
            code: Any = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(shlex.join(arguments), code, *said)


@contextmanager
def surroundings(arguments: list[str], cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """Arguments, working folder, environment and import path for one script; warning filters are put back too."""
    before = sys.argv, os.getcwd(), dict(os.environ), list(sys.path)
    freeze, gc.freeze = gc.freeze, lambda: None  # see `run_script`: here it is not the end
    with warnings.catch_warnings():
        try:
            sys.argv = arguments
            os.chdir(cwd)
            os.environ.update(env)
            sys.path[:0] = [str(cwd), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
            yield
        finally:
            sys.argv, folder, variables, sys.path[:] = before
            gc.freeze = freeze
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(variables)


@contextmanager
def caught() -> Iterator[list[str]]:
    """What is written to stdout and stderr, by Python and by the libraries below it."""
    said: list[str] = []
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    kept = [os.dup(1), os.dup(2)]
    files = [tempfile.TemporaryFile() for _ in kept]  # noqa: SIM115
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (open(os.dup(number), "w", encoding="utf-8") for number in (1, 2))  # noqa: SIM115
    try:
        yield said
    finally:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.close()
        sys.stdout, sys.stderr = streams
        for number, (descriptor, file) in enumerate(zip(kept, files), 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
            file.seek(0)
            said.append(file.read().decode("utf-8", "surrogateescape"))
            file.close()
