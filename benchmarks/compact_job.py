"""What `benchmarks/compact_torch.py` trains from, and the backbone's file from what it gives; both need Paddle.

python benchmarks/compact_job.py prepare --weights resnet18.pdparams --job job.npz
python benchmarks/compact_torch.py --job job.npz --result trained.npz
python benchmarks/compact_job.py finish --job job.npz --result trained.npz --save_path compact.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.pretraining.crops import Crops
from datasets.pretraining.photographs import load_photographs
from deploy.runtime.program import Runtime
from deploy.storage.files import scratch_folder
from models.backbones.backbone import Backbone
from models.backbones.distillation import LAYERS, Schedule, Training, fit_teacher
from train_compact import HEADS, ship

SIZES = (128, 192, 160, 224, 256)


def prepare(weights: Path | None, job: Path, seed: int) -> None:
    """Write the photographs, the teacher with its targets, and the student's first weights."""
    photographs = load_photographs()
    backbone = Backbone("resnet18", LAYERS, 128, weights, seed)
    with scratch_folder() as scratch:
        crops = Crops(photographs, seed, 16 * 128**2, SIZES)
        teacher, scales = fit_teacher(backbone, HEADS, crops, Runtime(), scratch / "plain")
    student = Training(HEADS, Schedule(1, 1e-3, 1, 0.0), 0.999, {"weight_decay": 0.01, "seed": seed}, gpu=False)
    arrays = {f"teacher|{name}": value for name, value in backbone.arrays().items()}
    arrays |= {f"student|{name}": value for name, value in student.averaged.items()}
    for number, turn in enumerate(teacher.turns):
        arrays |= {f"turn|{number}.weight": turn.weight.numpy(), f"turn|{number}.bias": turn.bias.numpy()}
    arrays |= {f"photograph|{number:02}": picture for number, picture in enumerate(photographs)}
    told = {"seed": seed, "sizes": SIZES, "scales": scales, "teacher": backbone.sha256}
    np.savez_compressed(job, told=json.dumps(told), **arrays)
    print(f"job: {job}, {job.stat().st_size / 2**20:.1f} MiB")


def finish(job: Path, result: Path, save_path: Path) -> None:
    """Write the averaged weights as a backbone's file."""
    with np.load(job, allow_pickle=False) as file:
        told = json.loads(str(file["told"]))
    with np.load(result, allow_pickle=False) as file:
        recipe = json.loads(str(file["recipe"]))
        averaged = {name: file[name] for name in file.files if name != "recipe"}
    print(f"weights: {ship(averaged, told['scales'], told['seed'], recipe, save_path)}")


def main() -> None:
    """Parse, and do what the first word says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = parser.add_subparsers(dest="what", required=True)
    first, last = several.add_parser("prepare"), several.add_parser("finish")
    first.add_argument("--weights", type=Path, default=None, help="resnet18's, as train.py looks for them")
    first.add_argument("--seed", type=int, default=521, help="decides pictures and first weights")
    for one in (first, last):
        one.add_argument("--job", type=Path, required=True)
    last.add_argument("--result", type=Path, required=True, help="what compact_torch.py wrote")
    last.add_argument("--save_path", type=Path, default=Path("compact.safetensors"))
    args = parser.parse_args()
    if args.what == "prepare":
        prepare(args.weights, args.job, args.seed)
    else:
        finish(args.job, args.result, args.save_path)


if __name__ == "__main__":
    main()
