"""Put pictures where a config of the chain looks for them; `prepare.sh` calls this.

The folder `DATA/CATEGORY` is made by this script and holds a list of what it made. A folder that is not, or that holds
anything else by now, is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.sample import write_sample
from deploy.command_line.parser import Parser
from deploy.command_line.script import run_script
from deploy.errors import UserError
from deploy.pictures.listing import SUFFIXES
from deploy.storage.files import make_folder, scratch_folder

MANIFEST = ".made_by_test_tipc.json"
FEW = 16
"""Number of training pictures of `lite_train_whole_infer`."""


def main() -> None:
    """Make the folder under a temporary name, then move it to its place; it may replace one that this script made."""
    parser = Parser(prog="chain_data.py", description=__doc__)
    parser.add_argument("--data", required=True, help="the config's --data_path")
    parser.add_argument("--category", required=True, help="the config's --category")
    parser.add_argument("--kind", default="crack", help="the kind of defect that the config infers on")
    parser.add_argument("--source", default=None, help="category of MVTec AD to link to; not given: drawn pictures")
    parser.flag("few", False, f"link the first {FEW} training pictures only")
    args = parser.parse()
    target = Path(args.data) / args.category
    check_ours(target)
    with scratch_folder(beside=make_folder(args.data)) as scratch:
        made = scratch / "made"
        if args.source is None:
            draw(scratch, made, args.kind)
        else:
            link(Path(args.source), target, made, FEW if args.few else None)
        count = len(list((made / "train/good").iterdir()))
        if not count:
            raise UserError(f"no training pictures in {args.source}/train/good: {target} stays as it was")
        (made / MANIFEST).write_text(json.dumps(contents(made), indent=1) + "\n")
        if target.exists():
            target.rename(scratch / "former")  # removed with the scratch folder
        made.rename(target)
    print(f"{count} training pictures in {target}")


def check_ours(target: Path) -> None:
    """Raise UserError unless `target` does not exist, or has exactly the content that this script has written."""
    if not os.path.lexists(target):
        return
    cure = "nothing was changed; move it away, or give the config another --data_path"
    try:
        known = None if target.is_symlink() else json.loads((target / MANIFEST).read_text())
    except (OSError, ValueError):
        known = None
    if known is None:
        raise UserError(f"{target} was not made by the test chain: {cure}")
    present = contents(target)
    other = [name for name, what in present.items() if known.get(name) != what]
    if other:
        raise UserError(f"{target} holds {other[0]}, which is not the test chain's: {cure}")


def contents(folder: Path) -> dict[str, str]:
    """Return the content of `folder`: for each file its sha256, for each link its target."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            if path.is_symlink():
                found[str(path.relative_to(folder))] = f"link to {os.readlink(path)}"
            elif path.is_file() and path != folder / MANIFEST:
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def draw(scratch: Path, made: Path, kind: str) -> None:
    """Draw a dozen pictures; cracked tablets get the name of the config's kind of defect."""
    write_sample(scratch, seed=7, train=8, good=2, bad=2, categories=["tablet"])
    for part in ("test", "ground_truth"):
        (scratch / "tablet" / part / "crack").rename(scratch / "tablet" / part / kind)
    (scratch / "tablet").rename(made)


def link(source: Path, target: Path, made: Path, few: int | None) -> None:
    """Make links to a category of MVTec AD, whose files are not moved."""
    if not (source / "train/good").is_dir() or not (source / "test").is_dir():
        raise UserError(f"no MVTec AD category at {source}: put it there, or set MVTEC to its parent folder")
    ends = source.resolve(), target.resolve()
    if ends[0] in (ends[1], *ends[1].parents) or ends[1] in ends[0].parents:
        raise UserError(f"{source} and {target} are one folder, or one in the other: set MVTEC to another folder")
    (made / "train/good").mkdir(parents=True)
    pictures = [path for path in sorted((source / "train/good").iterdir()) if path.suffix.lower() in SUFFIXES]
    for path in pictures[:few]:
        (made / "train/good" / path.name).symlink_to(path.resolve())
    for part in ("test", "ground_truth"):
        if (source / part).is_dir():
            (made / part).symlink_to((source / part).resolve())


if __name__ == "__main__":
    run_script(main)
