"""Write the sample data set: python -m datasets.sample FOLDER."""

from __future__ import annotations

from deploy.command_line.parser import Parser, natural
from deploy.command_line.script import run_script

from .write import CATEGORIES, write_sample


def main() -> None:
    """Write the sample data that the command line asks for."""
    told = "Write a sample data set in MVTec AD's layout."
    parser = Parser(prog="python -m datasets.sample", usage="%(prog)s FOLDER [OPTIONS]", description=told)
    parser.add_argument("folder", metavar="FOLDER", help="receives a folder per category")
    parser.add_argument("--seed", type=natural, default=521, help="decides every picture")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help=f"some of {', '.join(CATEGORIES)}; default all")
    for name, default, what in (("train", 32, "good pictures to fit on"), ("good", 10, "good pictures to test on"),
                                ("bad", 4, "pictures per kind of flaw")):  # fmt: skip
        parser.add_argument(f"--{name}", type=natural, default=default, help=f"{what}, per category")
    args = parser.parse()
    names = write_sample(args.folder, args.seed, args.train, args.good, args.bad, args.categories)
    print(f"sample data: {', '.join(names)} in {args.folder}")


if __name__ == "__main__":
    run_script(main)
