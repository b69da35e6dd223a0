"""Processes that start with Paddle already imported: a server imports it once and forks for every process asked for.

A process runs a script as `python SCRIPT` would, with its own arguments, folder, environment, streams and exit code,
and can be killed; only the seconds that importing the libraries takes are saved.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import marshal
import os
import runpy
import select
import signal
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from kept_rooms import KeptRooms
from scripts import ROOT
from warm_client import LENGTH, ask

CLIENT = """#!{python} -SE
import sys
sys.path.insert(0, {here!r})
import warm_client
warm_client.call({address!r})
"""
ROOMS = ("deploy", "datasets", "models", "evaluation", "options")
SCRIPTS = ("train", "eval", "predict", "export_model", "infer", "train_compact")
LATER = ("models.memory_bank.kcenter", "models.memory_bank.neighbours")
"""What the scripts import in the middle of their work."""


class Process:
    """A process that was started through the server."""

    def __init__(
        self, address: str, words: Sequence[str], folder: str, env: Mapping[str, str], files: Sequence[int]
    ) -> None:
        self._channel = socket.socket(socket.AF_UNIX)
        self._channel.connect(address)
        ask(self._channel, words, folder, env, files)
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


def preload() -> tuple[KeptRooms, dict[str, str]]:
    """Import what the scripts import; the project's own packages, and the variables that importing has set."""
    before = dict(os.environ)
    sys.path.insert(0, str(ROOT))
    for name in (*SCRIPTS, *LATER):
        importlib.import_module(name)
    import numba
    import scipy.ndimage
    import scipy.special  # noqa: F401
    import tqdm  # noqa: F401

    os.fsync = lambda descriptor: None  # no test loses power
    numba.njit(lambda: 0)()  # its tables of types and functions are filled at the first call
    for name in SCRIPTS:
        del sys.modules[name]
    sys.path.remove(str(ROOT))
    return KeptRooms(ROOMS), {name: value for name, value in os.environ.items() if name not in before}


def serve(address: str) -> None:
    """Import what the scripts import, then fork a process for every connection."""
    rooms, variables = preload()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    ended, signalled = socket.socketpair()
    ended.setblocking(False)
    signalled.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    clients: dict[int, socket.socket] = {}
    gc.freeze()  # collecting would write to every object's page, which a forked process then has to copy
    print("ready", flush=True)
    while True:
        for ready in select.select([listener, ended], [], [])[0]:
            if ready is ended:
                ended.recv(4096)
                tell(clients)
                continue
            channel, _ = listener.accept()
            request, files = receive(channel)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listener, ended, signalled, channel, *clients.values()):
                    one.close()
                words, folder, env = marshal.loads(request)
                if words[0] != "-m":  # which warns where a module is imported before it runs
                    sys.meta_path.insert(0, rooms)
                become(words, folder, {**variables, **env}, files)
            for file in files:
                os.close(file)
            clients[pid] = channel
            with contextlib.suppress(OSError):
                channel.sendall(f"{pid}\n".encode())


def receive(channel: socket.socket) -> tuple[bytes, Sequence[int]]:
    """What a client asks for, and its streams."""
    head, ancillary, *_ = channel.recvmsg(LENGTH, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i", ancillary[0][2])
    length, request = int.from_bytes(head, "little"), b""
    while len(request) < length:
        request += channel.recv(length - len(request))
    return request, files


def tell(clients: dict[int, socket.socket]) -> None:
    """Tell the clients of the processes that have ended."""
    while clients:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(OSError), clients.pop(pid) as channel:
            channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(words: list[str], folder: str, env: Mapping[str, str], files: Sequence[int]) -> None:
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
        first, *rest = words = words[words[0] == "-u" :]  # Paddle's launcher gives it
        name, sys.argv = (rest[0], [first, *rest[1:]]) if first in ("-m", "-c") else (first, words)
        sys.path[0] = str(Path(name).resolve().parent) if first == name else folder
        sys.path[1:1] = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
        if first == "-c":
            sys.modules["__main__"] = ModuleType("__main__")  # of no file, which processes that it spawns would import
            exec(compile(name, "<string>", "exec"), vars(sys.modules["__main__"]))
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
