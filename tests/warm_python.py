"""Processes that start with Paddle already imported: a server imports it once and forks for every process asked for.

A process runs a script as `python SCRIPT` would, with its own arguments, folder, environment, streams and exit code,
and can be killed; only the seconds that importing the libraries takes are saved.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

CLIENT = """#!{python} -SE
import os, sys
sys.path.insert(0, {here!r})
import warm_python
sys.exit(warm_python.call({address!r}, sys.argv[1:], os.getcwd(), dict(os.environ), (0, 1, 2)))
"""


class Process:
    """A process that was started through the server."""

    def __init__(
        self, address: str, words: Sequence[str], folder: str, env: Mapping[str, str], files: Sequence[int]
    ) -> None:
        self._channel = socket.socket(socket.AF_UNIX)
        self._channel.connect(address)
        ask = json.dumps([list(words), folder, dict(env)]).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        self._channel.sendmsg([len(ask).to_bytes(8, "little")], ancillary)
        self._channel.sendall(ask)
        self._answers = self._channel.makefile("r")
        self.pid = int(self._answers.readline())

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it; TimeoutError after so many seconds."""
        self._channel.settimeout(timeout)
        code = int(self._answers.readline())
        self._answers.close()
        self._channel.close()
        return code


def call(address: str, words: Sequence[str], folder: str, env: Mapping[str, str], files: Sequence[int]) -> int:
    """Run a process to its end, and tell it when this one is told to end."""
    process = Process(address, words, folder, env, files)
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    code = process.wait()
    return code if code >= 0 else 128 - code


class WarmPython(NamedTuple):
    """A server."""

    program: Path
    """What shell scripts call in place of python."""
    address: str

    def start(self, words: Sequence[object], folder: Path, files: Sequence[int]) -> Process:
        """Start a process with the streams in `files`."""
        return Process(self.address, list(map(str, words)), str(folder), os.environ, files)


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[WarmPython]:
    """Start a server, its socket in `folder`."""
    address, program = str(folder / "socket"), folder / "python"
    here = str(Path(__file__).parent)
    program.write_text(CLIENT.format(python=sys.executable, here=here, address=address))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "ready\n"
        yield WarmPython(program, address)
    finally:
        server.kill()
        server.wait()


def one_stack_for_paddle() -> None:
    """Give Paddle the same stack for every operation of a program that it traces, which takes half the time.

    Errors of an operation would name it.
    """
    here, whole = traceback.extract_stack(limit=2), traceback.extract_stack

    def extract_stack(f: FrameType | None = None, limit: int | None = None) -> traceback.StackSummary:
        caller = sys._getframe(1)
        return here if caller.f_globals["__name__"].startswith("paddle.") else whole(f or caller, limit)

    traceback.extract_stack = extract_stack


def serve(address: str) -> None:
    """Import what the scripts import, then fork a process for every connection."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # as deploy.runtime.program sets them before it imports Paddle
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    import cv2  # noqa: F401
    import numba
    import paddle.inference  # noqa: F401
    import safetensors  # noqa: F401
    import scipy.linalg.cython_blas
    import scipy.ndimage
    import scipy.special  # noqa: F401
    import threadpoolctl  # noqa: F401
    import tqdm  # noqa: F401

    one_stack_for_paddle()
    numba.njit(lambda: 0)()  # its tables of types and functions are filled at the first call

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # each connection's own process waits for the one that it forks
    gc.freeze()  # collecting would write to every object's page, which a forked process then has to copy
    print("ready", flush=True)
    while True:
        channel, _ = listener.accept()
        if os.fork():
            channel.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        head, ancillary, *_ = channel.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        files = array.array("i", ancillary[0][2])
        length, ask = int.from_bytes(head, "little"), b""
        while len(ask) < length:
            ask += channel.recv(length - len(ask))
        pid = os.fork()
        if not pid:
            channel.close()
            become(*json.loads(ask), files)
        with contextlib.suppress(BrokenPipeError):
            channel.sendall(f"{pid}\n".encode())
            channel.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
        os._exit(0)


def become(words: list[str], folder: str, env: dict[str, str], files: Sequence[int]) -> None:
    """Be `python WORDS`: a script, -m MODULE or -c CODE; never returns."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # new objects: those from before know what the server's streams were
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    code: object = 0
    try:
        first, *rest = words
        name, sys.argv = (rest[0], [first, *rest[1:]]) if first in ("-m", "-c") else (first, words)
        sys.path[0] = str(Path(name).resolve().parent) if first == name else folder
        sys.path[1:1] = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
        if first == "-c":
            exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})
        elif first == "-m":
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(sys.argv[1])
