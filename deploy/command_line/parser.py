"""Command-line conventions shared by the scripts: strict options, `--flag`, `--flag True` and `--flag=False` alike."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import UserError, report


class Parser(argparse.ArgumentParser):
    """An argparse parser that knows no abbreviations and reports a bad option in one line, exit 2."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **keywords)
        self._moot: dict[str, str] = {}

    def error(self, message: str) -> NoReturn:
        """Raise what `run_script` turns into one line and exit code 2."""
        raise UserError(f"{self.prog}: {message} (see {self.prog} --help)")

    def flag(self, name: str, default: bool, help: str) -> None:
        """Add a boolean option that works bare and with a value."""
        self.add_argument(f"--{name}", type=boolean, nargs="?", const=True, default=default, metavar="BOOL", help=help)

    def moot(self, name: str, reason: str, *more_names: str) -> None:
        """Accept an option of the predecessor that has nothing to decide here; using it prints `reason`."""
        self.add_argument(*more_names, f"--{name}", nargs="?", const=True, default=None, help=f"no effect: {reason}")
        self._moot[name] = reason

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse `argv`; unknown options raise UserError, moot ones that were given are named on stderr."""
        args = self.parse_args(argv)
        for name, reason in self._moot.items():
            if getattr(args, name) is not None:
                report(f"note: --{name} has no effect: {reason}")
            delattr(args, name)
        return args


def boolean(text: str) -> bool:
    """`True`, `yes`, `1`, `on` and their opposites, in any case."""
    word = text.strip().lower()
    if word in ("true", "yes", "y", "t", "1", "on"):
        return True
    if word in ("false", "no", "n", "f", "0", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return 0 if text.strip() == "0" else positive(text)


def command_line(script: str, options: dict[str, Any]) -> str:
    """The command that repeats a run, from the options that decide its result, in a fixed order."""
    words = ["python", script]
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name}")
        if value is not True:
            words += [shlex.quote(str(item)) for item in (value if isinstance(value, (list, tuple)) else [value])]
    return " ".join(words)
