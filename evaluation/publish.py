"""Output of an evaluation besides its table: the page of --report and the log of --log."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from deploy.command_line.parser import Arguments
from deploy.errors import UserError

from .chapter import Chapter
from .logs import PACKAGES, write_log
from .page import LIBRARIES, write_page


def check_published(args: Arguments) -> None:
    """Raise UserError if --report or --log cannot be written because a package is missing."""
    needed = {"--report": LIBRARIES if args.report else {}, "--log": {args.log: PACKAGES[args.log]} if args.log else {}}
    for option, packages in needed.items():
        for module, package in packages.items():
            if find_spec(module) is None:
                told = f"--log {module}" if option == "--log" else option
                raise UserError(f"{told} needs {package}: pip install {package}")


def publish(table: Path, chapters: Sequence[Chapter], args: Arguments) -> None:
    """Write the page beside the run's table, and the log below --save_path, as far as the options ask for them.

    Raises:
        UserError: as in `write_page` and `write_log`.
    """
    if args.report and chapters:
        write_page(table, chapters, args.report)
    if args.log and chapters:
        write_log(args.log, table, chapters, Path(args.save_path))
