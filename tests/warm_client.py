"""Asks the server of `warm_python.py` for a process. It imports next to nothing: every process starts with it."""

from __future__ import annotations

import _signal  # `signal` and `socket` take longer to import than all the rest
import _socket
import array
import marshal
import os
import sys
from collections.abc import Mapping, Sequence

LENGTH = 8
"""Bytes before a request that say how long it is."""


def ask(
    channel: _socket.socket, words: Sequence[str], folder: str, env: Mapping[str, str], files: Sequence[int]
) -> None:
    """Ask for `python WORDS` in `folder` with the streams in `files`; two lines answer: its pid, then its exit code."""
    request = marshal.dumps([list(words), folder, dict(env)])
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", files))]
    channel.sendmsg([len(request).to_bytes(LENGTH, "little")], ancillary)
    while request:
        request = request[channel.send(request) :]


def answered(channel: _socket.socket) -> int:
    """The next line of the server's answer."""
    line = b""
    while not line.endswith(b"\n"):
        part = channel.recv(1)
        if not part:
            sys.exit("the server of warm_python.py is gone")
        line += part
    return int(line)


def call(address: str) -> None:
    """Be the process that this one's arguments ask for: its streams, its folder, its environment and its exit code."""
    channel = _socket.socket(_socket.AF_UNIX)
    channel.connect(address)
    ask(channel, sys.argv[1:], os.getcwd(), os.environ, (0, 1, 2))
    pid = answered(channel)
    _signal.signal(_signal.SIGTERM, lambda number, frame: os.kill(pid, number))  # told to end, it tells the process
    code = answered(channel)
    os._exit(code if code >= 0 else 128 - code)
