"""Settings of the server: address, models, limits, and the token."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from ..errors import UserError
from ..runtime.program import Runtime

LOOPBACK = "127.0.0.1"
MOST_PORT = (1 << 16) - 1
TOKEN = "PADDLEPATCH_TOKEN"
"""Environment variable with the token that clients must send."""
MIB = 1 << 20
BATCH = 8
"""Default of --batch_size: largest number of pictures per run."""
MODELS = 64
"""Default of --max_models: largest number of models of a folder that are loaded at a time."""
EXPORT = "export"
"""Folder name for an export; the model is then named after the folder above."""
NAMED = 5
"""Number of models whose names are shown in a line."""


@dataclass(frozen=True)
class Job:
    """A model and its settings; it is sent to the process that runs the model."""

    stats: str
    model_file: str | None
    params_file: str | None
    runtime: Runtime
    threshold: float | None
    false_alarm: float | None
    least_area: float
    """Smallest area of a region, in pixels of the picture."""
    batch_size: int
    workers: int | None
    """Number of decoding threads."""


@dataclass(frozen=True)
class Settings:
    """Settings of a server."""

    address: tuple[str, int]
    """Host and port."""
    processes: dict[str, dict[str, Job]]
    """For each process, by its name, the jobs by their models' names. A process is named after its model or folder."""
    most_loaded: int
    """Largest number of models of one process that are loaded at a time."""
    max_body: int
    """Largest size of one picture's file, in bytes."""
    max_waiting: int
    """Largest number of pictures of one model that wait or are being scored."""

    @property
    def max_held(self) -> int:
        """Largest size of all requests in memory together, in bytes."""
        return max(8 * self.max_body, 256 * MIB)


def parse_address(text: str) -> tuple[str, int]:
    """Parse `PORT` (on 127.0.0.1), `HOST:PORT` or `[IPv6]:PORT` to host and port; port 0 means any free port.

    UserError for anything else.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdigit() and int(port) <= MOST_PORT) or (colon and not host) or "[" in host:
        raise UserError(f"--serve {text}: give PORT, HOST:PORT or [IPV6]:PORT, for instance {LOOPBACK}:8080")
    return host or LOOPBACK, int(port)


def named(stats: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the stats files by process and model.

    `NAME=FILE` or FILE is one model in a process of its own; FOLDER is all exports below it, in one process. A process
    is named after its model, or after the folder as given. A model without NAME is named after the folder of its file,
    or after the folder above if that folder is called `export`.

    Raises:
        UserError: a model's name has other characters than allowed or is there twice, a model is called like a folder,
            or FOLDER has no exports.
    """
    found: dict[str, dict[str, str]] = {}
    seen: dict[str, str] = {}
    for text in stats:
        name, sign, path = text.partition("=")
        if not sign or "/" in name:
            name, path = "", text
        folder = Path(path).is_dir()
        models = _below(path, name) if folder else [(name or _called(path), path)]
        for model, file in models:
            if not re.fullmatch(r"[\w. -]+", model):
                raise UserError(
                    f"--stats {file}: a model's name has letters, digits, blanks and ._- alone; give it as NAME=FILE"
                )
            if model in seen:
                raise UserError(
                    f"--stats: two models are called {model}: {seen[model]} and {file}; give another name as NAME=FILE"
                )
            seen[model] = file
        process = path if folder else models[0][0]
        if process in found:
            raise UserError(f"--stats: a model and a folder are both called {process}: name the model as NAME=FILE")
        found[process] = dict(models)
    return found


def _below(folder: str, name: str) -> list[tuple[str, str]]:
    """Name and stats file of every export below a folder; UserError if there are none, or if a `name` is given."""
    files = [str(file) for file in sorted(Path(folder).rglob("stats")) if file.is_file()]
    if not files:
        raise UserError(f"--stats {folder}: there is no export's stats file below it; make one with export_model.py")
    if name:
        raise UserError(f"--stats {name}={folder}: models of a folder have their own names: leave out {name}=")
    return [(_called(file), file) for file in files]


def _called(stats: str) -> str:
    folder = Path(stats).resolve().parent
    return folder.parent.name if folder.name == EXPORT else folder.name


def names_text(names: Iterable[str]) -> str:
    """Return the first NAMED names as text, and how many more there are."""
    some = list(names)
    more = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
    return ", ".join(some[:NAMED]) + more


def listener(address: tuple[str, int], option: str = "--serve {}:{}") -> tuple[socket.socket, bool]:
    """Return a bound socket that does not listen yet, and whether only this machine can reach it.

    Raises:
        UserError: the address, which was given by `option`, is unknown, is in use, or does not belong to this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix":  # so that a server can be started again right after it ended
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except (OSError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise UserError(f"{option.format(*address)}: {told}; choose another address or port") from error
    return bound, ip_address(str(place[0]).partition("%")[0]).is_loopback


def required_token(only_here: bool) -> str | None:
    """Return the token that clients must send, if any.

    UserError if other machines can reach the server and no token is set.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not only_here and not token:
        raise UserError(f"--serve: others reach this address, so set ${TOKEN} to a secret, or listen on {LOOPBACK}")
    return token or None
