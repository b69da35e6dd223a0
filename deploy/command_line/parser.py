"""Options of the scripts: no abbreviations; flags may be given as `--flag`, `--flag True` or `--flag=False`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from ..errors import UserError, report


class Arguments(argparse.Namespace):
    """The options' values, and which options the user gave."""

    __slots__ = ("given",)  # a slot, so that `vars` shows option values only
    given: tuple[str, ...]
    """Names of the options that were on the command line, in the parser's order."""


NOT_GIVEN = object()
ALL, WRONG, NONE = PICTURES = ("all", "wrong", "none")
"""Values of --save_pic: which pictures get a heat map; `wrong` are misses and false alarms."""
MOST_THREADS = 1024  # with more, the system may refuse, and Paddle aborts
KEPT = "kept from Anomaly.Paddle"
"""Group of options that are accepted but have no effect; --help shows it last."""


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help formatter that keeps the line breaks of examples, and shows no default for options without one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argparse parser with named groups and without abbreviations; a wrong option raises UserError (exit code 2)."""

    def __init__(self, **keywords: Any) -> None:
        self._group: argparse._ArgumentGroup | None = None
        super().__init__(allow_abbrev=False, formatter_class=Help, **keywords)
        self._groups: dict[str, argparse._ArgumentGroup] = {}
        self._no_effect: dict[str, str] = {}
        self._only_with: dict[str, tuple[str, ...]] = {}

    def group(self, title: str, example: str = "") -> None:
        """Put the options that are added next into this group of --help; `example` is shown with a new group."""
        if title not in self._groups:
            self._groups[title] = self.add_argument_group(title, f"example: {example}" if example else None)
        self._group = self._groups[title]

    def add_argument(self, *names: Any, **keywords: Any) -> argparse.Action:
        """Add an option as argparse does, to the current group."""
        return (self._group.add_argument if self._group else super().add_argument)(*names, **keywords)

    def format_help(self) -> str:
        """Return the text of --help."""
        self._action_groups.sort(key=lambda group: group.title == KEPT)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise UserError, which `run_script` turns into one line and exit code 2."""
        raise UserError(f"{self.prog}: {message} (see {self.prog} --help)")

    def flag(self, name: str, default: bool, help: str) -> None:
        """Add a boolean option that may be given with or without a value."""
        self.add_argument(f"--{name}", type=boolean, nargs="?", const=True, default=default, metavar="BOOL", help=help)

    def pictures(self, help: str, labelled: bool = False) -> None:
        """Add --save_pic, whose value is one of PICTURES; `wrong` is allowed only if pictures are `labelled`."""
        words = "|".join(PICTURES if labelled else (ALL, NONE))
        self.add_argument(
            "--save_pic",
            type=partial(which_pictures, labelled=labelled),
            nargs="?",
            const=ALL,
            default=ALL,
            metavar=words,
            help=f"{help} (True and False are {ALL} and {NONE})",
        )

    def files_for_machines(self) -> None:
        """Add the options for output that programs read: masks, raw maps and regions, see `deploy.results.tables`."""
        self.flag("save_mask", False, "write a mask per picture: 255 defective, 0 good, 127 outside the crop")
        self.flag("save_map", False, "write the map of each picture as a 16-bit png; the table has its map_step")
        self.flag("save_regions", False, "write each region above the pixel threshold: a table and COCO json")
        self.add_argument("--min_area", type=natural, default=0, help="least area of such a region, in picture pixels")
        self.only_with("min_area", "save_regions", "report", "serve")

    def only_with(self, name: str, *others: str) -> None:
        """Refuse the option `name`, unless it is a flag given as False or one of the `others` is in use.

        Those of `others` that this parser does not have are left out.
        """
        self._only_with[name] = others

    def no_effect(self, name: str, reason: str, *more_names: str) -> None:
        """Accept an option of Anomaly.Paddle that has no effect in this script; if it is given, `reason` is printed."""
        before = self._group
        self.group(KEPT, f"--{name}")
        self.add_argument(
            *more_names, f"--{name}", nargs="?", const=True, default=None, metavar="VALUE", help=f"no effect: {reason}"
        )
        self._group, self._no_effect[name] = before, reason

    def parse(self, argv: Sequence[str] | None = None) -> Arguments:
        """Parse `argv`; unknown options raise UserError, given options without effect are reported on stderr."""
        values = vars(self.parse_args(argv))
        marked = argparse.Namespace(**dict.fromkeys(values, NOT_GIVEN))
        self.parse_args(argv, marked)  # changes only the options that are on the command line
        given = [name for name in values if getattr(marked, name) is not NOT_GIVEN]
        for name, reason in self._no_effect.items():
            if name in given:
                report(f"note: --{name} has no effect: {reason}")
        for name, others in self._only_with.items():
            known = [other for other in others if other in values]
            if name in given and values[name] is not False and not any(values[other] for other in known):
                raise UserError(f"--{name} has an effect only with --{' or --'.join(known)}: give that too")
        args = Arguments(**{name: value for name, value in values.items() if name not in self._no_effect})
        args.given = tuple(name for name in given if name not in self._no_effect)
        return args

    def command(self, args: Arguments, values: dict[str, Any]) -> str:
        """Return the command that repeats a run: all given options, with `values` (by option name) replacing theirs."""
        shown = {**{name: getattr(args, name) for name in args.given}, **values}
        actions = [action for action in self._actions if action.dest in shown]
        options = {a.option_strings[-1][2:]: shown[a.dest] for a in actions if a.option_strings}
        words = [word for a in actions if not a.option_strings for word in shown[a.dest]]
        return command_line(self.prog, options, words)


def boolean(text: str) -> bool:
    """Convert `True`, `yes`, `1`, `on` and their opposites, in upper or lower case, to bool."""
    word = text.strip().lower()
    if word in ("true", "yes", "y", "t", "1", "on"):
        return True
    if word in ("false", "no", "n", "f", "0", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def which_pictures(text: str, labelled: bool) -> str:
    """Convert a value of --save_pic to one of PICTURES; the words of `boolean` mean ALL or NONE."""
    word = text.strip().lower()
    if word == WRONG and not labelled:
        raise argparse.ArgumentTypeError(f"{text!r} needs labelled pictures, as eval.py has: give all or none")
    if word in PICTURES:
        return word
    try:
        return ALL if boolean(text) else NONE
    except argparse.ArgumentTypeError:
        words = ", ".join(PICTURES if labelled else (ALL, NONE))
        raise argparse.ArgumentTypeError(f"{text!r} is none of {words}, True, False") from None


def positive(text: str) -> int:
    """Convert to a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Convert to a whole number of at least 0."""
    return _whole(text, 0)


def threads(text: str) -> int:
    """Convert to a number of threads, 1 to MOST_THREADS."""
    return _whole(text, 1, MOST_THREADS)


def _whole(text: str, least: int, most: int = 10**12) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        limit = f"from {least} to {most}" if value > most else f"of at least {least}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limit}")
    return value


def rate(text: str) -> float:
    """Convert to a number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate above 0 and below 1, such as 0.05")
    return value


def command_line(program: str, options: dict[str, Any], words: Sequence[Any] = ()) -> str:
    """Return the command that calls `program` with `words` and `options`, quoted for a shell; None is left out.

    A script, `NAME.py`, is run with python; any other program is a command itself.
    """
    command = ["python", program] if program.endswith(".py") else program.split()
    command += [f"./{word}" if str(word).startswith("-") else str(word) for word in words]
    for name, value in options.items():
        if value is None:
            continue
        values = [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
        if value is True:
            command.append(f"--{name}")
        elif len(values) == 1 and values[0].startswith("-"):
            command.append(f"--{name}={values[0]}")
        else:
            command += [f"--{name}", *values]
    return shlex.join(command)
