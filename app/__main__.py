"""Start the page: python -m app [OPTIONS], which `make app` calls."""

from __future__ import annotations

import os
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from deploy.command_line.script import run_script
from deploy.errors import UserError

from .settings import LOOPBACK, WORDS, check, parse
from .uploads import MOST_MEGABYTES


def main() -> None:
    """Check the options, then run streamlit's server in this process."""
    args = parse()
    if find_spec("streamlit") is None:
        raise UserError("the app needs streamlit: pip install -r requirements-app.txt, with Python 3.11 or newer")
    check(args)
    os.environ[WORDS] = shlex.join(sys.argv[1:])
    # with TBB, which comes with Paddle, a process with one core that has fitted in another thread would never end
    os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp tbb workqueue")
    if args.address == LOOPBACK:  # protects from web sites whose own name resolves to this address
        os.environ.setdefault("STREAMLIT_SERVER_ALLOWED_HOSTS", f"localhost {LOOPBACK}")
    config = {
        "server.address": args.address,
        "server.port": args.port,
        "server.headless": "true",
        "server.maxUploadSize": MOST_MEGABYTES,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.primaryColor": "#0b6e99",
    }
    page = Path(__file__).with_name("page.py")
    flags = [f"--{name}={value}" for name, value in config.items()]
    print(f"open http://{args.address}:{args.port} in a browser; Ctrl-C ends it", flush=True)
    # streamlit runs in this process, after the import of Paddle: its handler of SIGTERM must be the last one set,
    # otherwise nothing is cleaned up
    import_module("streamlit.web.cli").main(["run", str(page), *flags], prog_name="streamlit")


if __name__ == "__main__":
    run_script(main)
