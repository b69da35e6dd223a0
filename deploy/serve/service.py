"""Running the server: it loads the models, listens, and answers waiting requests before it ends."""

from __future__ import annotations

import contextlib
import signal
import socket

import uvicorn

from ..errors import report
from .app import create_app
from .connection import Connection
from .metrics import Metrics
from .model import ModelProcess
from .settings import Settings, listener, names_text, required_token

try:
    import resource
except ImportError:  # Windows does not have this module
    resource = None  # type: ignore[assignment]

END = 30
"""Seconds that running requests have to finish when the server is told to end."""
MOST_CONNECTIONS = 4096
BACKLOG = 64
"""Clients that are accepted at a time."""
OTHER_FILES = 64 + 4 * BACKLOG
"""Open files to reserve: files that are not connections, and connections that asyncio is opening or closing."""


def run(settings: Settings) -> int:
    """Run the server until it is told to end; return 0. Errors as in `deploy.serve.serve`."""
    bound, only_here = listener(settings.address)
    with contextlib.closing(bound), contextlib.ExitStack() as stack:
        token = required_token(only_here)
        metrics = Metrics()
        processes = [
            ModelProcess(name, jobs, settings.most_loaded, metrics) for name, jobs in settings.processes.items()
        ]
        for process in processes:
            stack.callback(process.stop)
            process.start()
        for process in processes:
            process.wait()
            print(told(process), flush=True)
        models = {model: process for process in processes for model in process.jobs}
        metrics.watch(processes)
        for process in processes:
            process.serve()
        Connection.most = most_connections()
        config = uvicorn.Config(
            create_app(models, metrics, settings, token),
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=END,
        )
        server = uvicorn.Server(config)
        end_on_signals(server)
        bound.listen(BACKLOG)
        print(f"serving {names_text(models)} at {url(bound)}; it is described at {url(bound)}/docs", flush=True)
        server.run(sockets=[bound])
    print("the server has ended", flush=True)
    return 0


def told(process: ModelProcess) -> str:
    """Return a line about a process: the description of its model, or the number of models of its folder."""
    if process.name in process.about:
        return f"{process.name}: {process.about[process.name]}"
    return f"{process.name}: {len(process.about)} models, at most {process.most} of them loaded at a time"


def end_on_signals(server: uvicorn.Server) -> None:
    """From now on, Ctrl-C and `kill` end the server properly.

    uvicorn handles these signals too, but only while it runs, and at its end it raises them again.
    """

    def end(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def url(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def most_connections() -> int:
    """Raise the limit of open files as far as allowed; return how many clients it permits, at most MOST_CONNECTIONS."""
    if resource is None:
        return MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        report(f"note: this system allows {soft} open files, so at most {soft - OTHER_FILES} clients at a time")
    return min(MOST_CONNECTIONS, soft - OTHER_FILES)
