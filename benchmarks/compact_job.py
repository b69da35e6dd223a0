"""What `benchmarks/compact_torch.py` trains from, and the backbone's file from what it gives; both need Paddle.

python -m benchmarks.compact_job prepare --weights resnet18.pdparams --job job.npz

python benchmarks/compact_torch.py --job job.npz --result trained.npz

python -m benchmarks.compact_job finish --job job.npz --result trained.npz --save_path compact.safetensors
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from datasets.pretraining.crops import Crops
from datasets.pretraining.photographs import load_photographs
from deploy.command_line.parser import Parser, natural
from deploy.command_line.script import run_script
from deploy.runtime.program import Runtime
from deploy.storage.files import scratch_folder, write_whole
from models.backbones.backbone import Backbone
from models.backbones.distillation import LAYERS, first_student, fit_teacher
from train_compact import HEADS, SIZES, write_backbone


def prepare(weights: Path | None, job: Path, seed: int) -> None:
    """Write the photographs, the teacher with its targets, and the student's first weights."""
    photographs = load_photographs()
    backbone = Backbone("resnet18", LAYERS, 128, weights, seed)
    with scratch_folder() as scratch:
        crops = Crops(photographs, seed, 16 * 128**2, SIZES)
        teacher, scales = fit_teacher(backbone, HEADS, crops, Runtime(), scratch / "plain")
    arrays = {f"teacher|{name}": value for name, value in backbone.arrays().items()}
    student = first_student(HEADS, seed).state_dict()
    arrays |= {f"student|{name}": value.numpy() for name, value in student.items()}
    for number, turn in enumerate(teacher.turns):
        arrays |= {f"turn|{number}.weight": turn.weight.numpy(), f"turn|{number}.bias": turn.bias.numpy()}
    arrays |= {f"photograph|{number:02}": picture for number, picture in enumerate(photographs)}
    told = {"seed": seed, "sizes": SIZES, "scales": scales, "teacher": backbone.sha256}
    content = io.BytesIO()
    np.savez_compressed(content, told=json.dumps(told), **arrays)
    print(f"job: {write_whole(job, content.getvalue())}")


def finish(job: Path, result: Path, save_path: Path) -> None:
    """Write the averaged weights as a backbone's file."""
    with np.load(job, allow_pickle=False) as file:
        told = json.loads(str(file["told"]))
    with np.load(result, allow_pickle=False) as file:
        recipe = json.loads(str(file["recipe"]))
        averaged = {name: file[name] for name in file.files if name != "recipe"}
    print(f"weights: {write_backbone(averaged, told['scales'], told['seed'], recipe, save_path)}")


def main() -> int:
    """Parse the options, and run `prepare` or `finish`."""
    parser = Parser(prog="python -m benchmarks.compact_job", description=__doc__)
    several = parser.add_subparsers(dest="what", required=True)
    first, last = several.add_parser("prepare"), several.add_parser("finish")
    first.add_argument("--weights", type=Path, default=None, help="resnet18's, as in train.py")
    first.add_argument("--seed", type=natural, default=521, help="decides pictures and first weights")
    for one in (first, last):
        one.add_argument("--job", type=Path, required=True, help="what the training needs")
    last.add_argument("--result", type=Path, required=True, help="what compact_torch.py wrote")
    last.add_argument("--save_path", type=Path, default=Path("compact.safetensors"), help="the backbone's file")
    args = parser.parse_args()
    if args.what == "prepare":
        prepare(args.weights, args.job, args.seed)
    else:
        finish(args.job, args.result, args.save_path)
    return 0


if __name__ == "__main__":
    run_script(main)
