"""The whole way on generated pictures: sample data, train, evaluate, predict, export, run the export.

Runs the scripts as a user would and prints each command. `make demo` calls it in an environment of its own.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

from deploy.errors import UserError, report, run_script
from models.weights import RANDOM, local_weights

ARCH = "resnet18"


def run(*words: str) -> None:
    """Run a script with this interpreter, showing the command."""
    print(f"\n$ python {shlex.join(words)}", flush=True)
    if subprocess.run([sys.executable, *words]).returncode != 0:
        raise UserError(f"the demo stopped: {words[0]} failed, see above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="demo", help="receives the data and all results")
    folder = Path(parser.parse_args().folder)
    data, output, category = folder / "data", folder / "output", "washer"

    weights, k = local_weights(ARCH), "10"
    settings = ["--weights", str(weights)]
    if weights is None:  # random features are best near the picture: layer1
        k, settings = "2", ["--weights", RANDOM, "--layers", "layer1"]
        report(f"NO PRETRAINED WEIGHTS for {ARCH} on this machine: the demo uses seeded RANDOM ones.")
    model = ["--arch", ARCH, "--k", k, "--save_path", str(output)]
    done = output / f"patchcore_{ARCH}_{k}"
    exported = done / category / "export"

    run("-m", "datasets.sample", str(data))
    run("train.py", "--data_path", str(data), "--category", "all", *model, *settings)
    run("eval.py", "--data_path", str(data), "--category", "all", *model, "--eval_PRO")
    run("predict.py", str(data / category / "test"), "--category", category, *model)
    run("export_model.py", "--category", category, *model)
    run("infer.py", "--stats", str(exported / "stats"), "--input_file", str(data / category / "test"),
        "--save_path", str(output / "infer"))  # fmt: skip

    with open(done / "all_seed521.csv") as table:
        rows = {row["category"]: row for row in csv.DictReader(table)}
    print("\nFound:")
    for name, row in rows.items():
        print(
            f"  {name:8} image AUROC {row['Image_AUROC']}, pixel AUROC {row['Pixel_AUROC']}, AU-PRO {row['PRO_score']}"
        )
    if weights is None:
        report("With RANDOM weights, see above. Pretrained ones (README, Backbone weights) do better.")
    print(f"Heat maps with ground truth: {done}/*/heatmaps/")
    print(f"Heat maps of the exported program: {output / 'infer/heatmaps'}/")
    print(f"Scores: {done / category / 'predict.csv'} and {output / 'infer/infer.csv'}")


if __name__ == "__main__":
    run_script(main)
