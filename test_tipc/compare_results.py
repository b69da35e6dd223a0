"""Compare the scores in inference logs with stored ones.

python test_tipc/compare_results.py --gt_file test_tipc/results/NAME.txt --log_file "FOLDER/python_infer_*.log"
"""

from __future__ import annotations

import csv
import glob
import math
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.command_line.parser import Parser
from deploy.command_line.script import run_script
from deploy.errors import UserError


def scores(path: Path) -> dict[str, float]:
    """Read the table `path,score,...` at the end of a log or in a file of stored results; return scores by picture.

    A picture's name is the last two parts of its path, KIND/NUMBER.png below its category's test folder.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; name files, not folders") from error
    starts = [number for number, line in enumerate(lines) if line.startswith("path,score")]
    if not starts:
        raise UserError(f"no table of scores in {path}: the run that wrote it did not finish")
    rows = list(csv.DictReader(lines[starts[-1] :]))
    if not rows:
        raise UserError(f"the table of scores in {path} is empty: the run that wrote it scored nothing")
    return {"/".join(Path(row["path"]).parts[-2:]): number(row, path) for row in rows}


def number(row: dict[str, str | None], path: Path) -> float:
    """The score in a row of the table in `path`; UserError if there is none."""
    try:
        return float(row.get("score") or "")
    except ValueError:
        raise UserError(f"{path}: no score of {row['path']}: restore the file, or run again") from None


def stored_scores(paths: list[str]) -> dict[str, float]:
    """Read all files of stored results, which are of one model: UserError if two differ about a picture."""
    stored: dict[str, float] = {}
    for path in paths:
        for key, value in scores(Path(path)).items():
            if stored.setdefault(key, value) != value:
                raise UserError(f"--gt_file: {path} and another file differ about {key}: name one model's results")
    return stored


def main() -> int:
    """Compare; return 1 if a score differs, is not among the stored ones, or is in no log."""
    parser = Parser(prog="compare_results.py", description=__doc__)
    parser.add_argument("--gt_file", required=True, help="stored results, may hold *")
    parser.add_argument("--log_file", required=True, help="logs of inference, may hold *")
    parser.add_argument("--atol", type=float, default=1e-3)
    parser.add_argument("--rtol", type=float, default=1e-3)
    parser.add_argument("--precision", default="fp32", help="compare logs of this precision only")
    args = parser.parse()
    stored = stored_scores(sorted(glob.glob(args.gt_file)))
    logs = [name for name in sorted(glob.glob(args.log_file)) if f"precision_{args.precision}" in name]
    if not stored or not logs:
        raise UserError(f"nothing to compare: {len(stored)} results in {args.gt_file}, {len(logs)} in {args.log_file}")
    wrong = 0
    for name in logs:
        found = scores(Path(name))
        bad = [key for key, value in found.items() if key in stored and not near(value, stored[key], args)]
        bad += [key for key in found if key not in stored]
        print(f"{name}: {len(found)} scores, {len(found) - len(bad)} as stored")
        bad += [key for key in stored if key not in found]
        for key in bad:
            print(f"  {key}: {found.get(key, 'not scored')}, stored {stored.get(key, 'none')}")
        wrong += bool(bad)
    return 1 if wrong else 0


def near(value: float, known: float, args: Namespace) -> bool:
    """Whether two values are close, as in numpy.allclose."""
    return math.isfinite(value) and math.isfinite(known) and abs(value - known) <= args.atol + args.rtol * abs(known)


if __name__ == "__main__":
    run_script(main)
