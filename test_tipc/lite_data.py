"""python test_tipc/lite_data.py FOLDER CATEGORY KIND: a dozen drawn pictures under the names that a config uses."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.sample import write_sample
from deploy.command_line.script import run_script
from deploy.storage.files import scratch_folder


def main() -> None:
    """Cracked tablets go by the config's names."""
    folder, category, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    with scratch_folder(beside=folder) as scratch:
        write_sample(scratch, seed=7, train=8, good=2, bad=2, categories=["tablet"])
        for part in ("test", "ground_truth"):
            (scratch / "tablet" / part / "crack").rename(scratch / "tablet" / part / kind)
        (scratch / "tablet").rename(folder / category)


if __name__ == "__main__":
    run_script(main)
