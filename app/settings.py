"""The command line of `python -m app`, which decides what visitors of the page may use."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import options
from datasets.readers import Category, select_categories
from deploy.command_line.parser import Arguments, Parser, positive
from deploy.errors import UserError
from deploy.serve.settings import LOOPBACK, MOST_PORT, listener
from deploy.storage.tensors import read_header
from models.backbones.weights import read_weights

WORDS = "PADDLEPATCH_APP"
"""Environment variable that passes the command line to the page, since streamlit has a command line of its own."""


def parse(words: Sequence[str] | None = None) -> Arguments:
    """Parse the options in `words`, or in the command line if not given.

    Raises:
        UserError: an option is unknown or not usable, or the weights cannot be read.
    """
    parser = Parser(prog="python -m app", usage="%(prog)s [OPTIONS]", description="PaddlePatch as a page in a browser.")
    parser.group("what visitors may use", "--data_path parts --save_path output --weights resnet18.pdparams")
    parser.add_argument("--data_path", default=None, help="offer the categories of this folder; none if not given")
    parser.add_argument("--save_path", default=None, help="offer the models below this folder; none if not given")
    parser.add_argument("--weights", default=None, metavar="FILE", help="offer the backbone resnet18 with these")
    parser.group("server", "--port 8600")
    parser.add_argument("--address", default=LOOPBACK, help="where it listens: this machine alone, unless you say")
    parser.add_argument("--port", type=positive, default=8501, help="its port")
    options.add_run_options(parser)
    return parser.parse(words)


def check(args: Arguments) -> None:
    """Raise UserError if something that will be offered does not exist, or if the port is taken; before any visitor."""
    options.runtime(args)
    if args.port > MOST_PORT:
        raise UserError(f"--port {args.port}: give a number from 1 to {MOST_PORT}")
    listener((args.address, args.port), "--address {} --port {}")[0].close()
    if args.data_path is not None:
        select_categories(args.data_path, "all")
    if args.save_path is not None and not models(args):
        raise UserError(f"--save_path {args.save_path}: no models below it; train one first, or leave the option out")
    if args.weights is not None:
        read_weights(args.weights)


def of_page() -> Arguments:
    """Return the options that `python -m app` was started with."""
    return parse(shlex.split(os.environ.get(WORDS, "")))


def categories(args: Arguments) -> dict[str, Category]:
    """Return the categories that are offered, by name."""
    found = [] if args.data_path is None else select_categories(args.data_path, "all")
    return {category.name: category for category in found}


def models(args: Arguments) -> dict[str, Path]:
    """Return the models that are offered, by their paths below --save_path."""
    if args.save_path is None:
        return {}
    root = Path(args.save_path)
    return {str(path.relative_to(root)): path for path in sorted(root.rglob("*.safetensors")) if _is_model(path)}


def _is_model(path: Path) -> bool:
    try:
        return bool(read_header(path, "model"))
    except UserError:  # a backbone, or damaged
        return False
