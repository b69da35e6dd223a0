"""What a server is told: where to listen, which models, how much to take at a time, and who may ask."""

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
"""The environment variable that holds what clients must send."""
MIB = 1 << 20
BATCH = 8
"""Pictures per run at most, where --batch_size is not given."""
MODELS = 64
"""Models of a folder that are loaded at a time, where --max_models is not given."""
EXPORT = "export"
"""What a folder is called that holds the export of the model that the folder above is called like."""
NAMED = 5
"""Models that a line names."""


@dataclass(frozen=True)
class Job:
    """One model and how it answers; sent to the process that runs it."""

    stats: str
    model_file: str | None
    params_file: str | None
    runtime: Runtime
    threshold: float | None
    false_alarm: float | None
    least_area: float
    """Of regions, in pixels of the picture."""
    batch_size: int
    workers: int | None
    """Decoding threads."""


@dataclass(frozen=True)
class Settings:
    """A server."""

    address: tuple[str, int]
    """Host and port."""
    processes: dict[str, dict[str, Job]]
    """What each process does, by its models' names; it is called like its model, or like the folder of them."""
    most_loaded: int
    """Models of one process that are loaded at a time."""
    max_body: int
    """Bytes of one picture's file."""
    max_waiting: int
    """Pictures of one model that wait or are being scored."""

    @property
    def max_held(self) -> int:
        """Bytes of all requests that are being received or wait."""
        return max(8 * self.max_body, 256 * MIB)


def parse_address(text: str) -> tuple[str, int]:
    """`PORT` (of this machine alone), `HOST:PORT` or `[IPv6]:PORT`; port 0 is any free one."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdigit() and int(port) <= MOST_PORT) or (colon and not host) or "[" in host:
        raise UserError(f"--serve {text}: give PORT, HOST:PORT or [IPV6]:PORT, for instance {LOOPBACK}:8080")
    return host or LOOPBACK, int(port)


def named(stats: Sequence[str]) -> dict[str, dict[str, str]]:
    """The stats files by process and model: of `NAME=FILE` or FILE one model, of FOLDER all exports below it.

    A process is called like its model, or as the folder is given; a model without NAME like the folder that its file
    is in, or of one that is called `export` the folder above.
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
        found[path if folder else models[0][0]] = dict(models)
    return found


def _below(folder: str, name: str) -> list[tuple[str, str]]:
    """Name and stats file of every export below a folder; UserError where there is none, or a `name` for all."""
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
    """Some of the names, and how many more there are."""
    some = list(names)
    more = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
    return ", ".join(some[:NAMED]) + more


def listener(address: tuple[str, int], option: str = "--serve {}:{}") -> tuple[socket.socket, bool]:
    """A bound socket that does not listen yet, and whether only this machine reaches it.

    Raises:
        UserError: the address, which `option` gave, is unknown, taken or not ours.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix":  # a server that was just ended may be started again
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except (OSError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise UserError(f"{option.format(*address)}: {told}; choose another address or port") from error
    return bound, ip_address(str(place[0]).partition("%")[0]).is_loopback


def required_token(only_here: bool) -> str | None:
    """The token that clients must send, if any; UserError where others reach the server and there is none."""
    token = os.environ.get(TOKEN, "").strip()
    if not only_here and not token:
        raise UserError(f"--serve: others reach this address, so set ${TOKEN} to a secret, or listen on {LOOPBACK}")
    return token or None
