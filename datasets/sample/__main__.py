"""Write the sample data set: python -m datasets.sample FOLDER."""

from __future__ import annotations

import argparse

from deploy.command_line.script import run_script

from .write import CATEGORIES, write_sample


def main() -> None:
    """Write the sample data that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write a sample data set in MVTec AD's layout.")
    parser.add_argument("folder", help="receives a folder per category")
    parser.add_argument("--seed", type=int, default=521, help="decides every picture")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help=f"some of {', '.join(CATEGORIES)}; default all")
    for name, default, what in (("train", 32, "good pictures to fit on"), ("good", 10, "good pictures to test on"),
                                ("bad", 4, "pictures per kind of flaw")):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what}, per category")
    args = parser.parse_args()
    names = write_sample(args.folder, args.seed, args.train, args.good, args.bad, args.categories)
    print(f"sample data: {', '.join(names)} in {args.folder}")


if __name__ == "__main__":
    run_script(main)
