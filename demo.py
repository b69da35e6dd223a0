"""The whole way on generated pictures: sample data, train, evaluate, predict, export, run the export.

Runs the scripts as a user would and prints each command. `make demo` calls it in an environment of its own.
"""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from pathlib import Path

from deploy.command_line.parser import Parser
from deploy.command_line.script import run_script
from deploy.errors import UserError


def run(*words: str) -> None:
    """Print a command and run this script with the same Python; UserError if it fails."""
    print(f"\n$ python {shlex.join(words)}", flush=True)
    if subprocess.run([sys.executable, *words]).returncode != 0:
        raise UserError(f"the demo stopped: {shlex.join(words[:2])} failed, see above")


def main() -> None:
    parser = Parser(prog="demo.py", description=__doc__)
    parser.add_argument("--folder", default="demo", help="receives the data and all results")
    parser.add_argument("--arch", default="compact", help="backbone; compact's weights are in the repository")
    args = parser.parse()
    folder, category = Path(args.folder), "washer"
    data, output = folder / "data", folder / "output"
    model = ["--arch", args.arch, "--k", "2", "--save_path", str(output)]
    done = output / f"patchcore_{args.arch}_2"
    exported = done / category / "export"

    run("-m", "datasets.sample", str(data))
    # the finer layers find the small flaws better
    run("train.py", "--data_path", str(data), "--category", "all", *model, "--layers", "layer1", "layer2")
    run("eval.py", "--data_path", str(data), "--category", "all", *model, "--report")
    run("predict.py", str(data / category / "test"), "--category", category, *model)
    run("export_model.py", "--data_path", str(data), "--category", category, *model)
    run("infer.py", "--stats", str(exported / "stats"), "--input_file", str(data / category / "test"),
        "--save_path", str(output / "infer"))  # fmt: skip

    with open(done / "all_seed521.csv", encoding="utf-8") as table:
        rows = {row["category"]: row for row in csv.DictReader(table)}
    print("\nFound:")
    for name, row in rows.items():
        print(
            f"  {name:10} image AUROC {row['Image_AUROC']}, pixel AUROC {row['Pixel_AUROC']}, AU-PRO {row['PRO_score']}"
        )
    print(f"Report, to open in a browser: {done / 'all_seed521.html'}")
    print(f"Heat maps with ground truth: {done}/*/heatmaps/")
    print(f"Heat maps of the exported program: {output / 'infer/heatmaps'}/")
    print(f"Scores: {done / category / 'predict.csv'} and {output / 'infer/infer.csv'}")


if __name__ == "__main__":
    run_script(main)
