"""Look at a data set before training on it: python -m datasets DIR."""

from __future__ import annotations

from deploy.command_line.parser import Parser, natural
from deploy.command_line.script import run_script

from .readers import LAYOUTS, select_categories
from .readers.layouts import layout_of
from .readers.survey import survey


def main() -> int:
    """Print what is there; return 2 if training would fail."""
    parser = Parser(prog="python -m datasets", usage="%(prog)s DIR [OPTIONS]", description=__doc__)
    parser.add_argument("data_path", metavar="DIR", help="the folder that holds the pictures, or a table of them")
    parser.add_argument("--category", default="all", help="NAME[,NAME...], all, textures or objects")
    parser.add_argument("--layout", choices=LAYOUTS, default=None, help="found by looking if not given")
    parser.add_argument("--num_workers", type=natural, default=None, help="threads that read pictures; one per core")
    args = parser.parse()
    failing = 0
    for category in select_categories(args.data_path, args.category, args.layout):
        print(f"== {category.name}: layout {layout_of(category)}", flush=True)
        found = survey(category, args.num_workers)
        for line in found.facts:
            print(line)
        for line in found.warnings:
            print(f"warning: {line}")
        for line in found.errors:
            print(f"error: {line}")
        failing += bool(found.errors)
    print(f"training would fail for {failing} of the categories" if failing else "training can start")
    return 2 if failing else 0


if __name__ == "__main__":
    run_script(main)
