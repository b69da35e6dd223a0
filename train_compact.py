"""Train the embedded backbone `compact` to predict ResNet-18's features on free photographs and drawn textures.

python train_compact.py --steps 40000

Needs the weights of resnet18, scikit-image and scikit-learn. Writes checkpoint.safetensors and compact.safetensors to
--save_path; stopped at any moment, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

if "AuthenticAMD" in (Path("/proc/cpuinfo").read_text() if platform.system() == "Linux" else ""):
    # set before Paddle is loaded, whose MKL otherwise uses slow code on AMD's processors (2.5 times slower)
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")

import cv2
import numpy as np

from datasets.pretraining.crops import Crops
from datasets.pretraining.photographs import PHOTOGRAPHS, load_photographs, pictures_sha256
from deploy.command_line.parser import Parser, natural, positive, rate
from deploy.command_line.progress import progress
from deploy.command_line.script import run_script
from deploy.runtime.program import Runtime, gpu_usable
from deploy.storage.files import make_folder, scratch_folder
from deploy.storage.tensors import write_tensors
from models.backbones.backbone import Backbone
from models.backbones.compact import CHANNELS
from models.backbones.distillation import LAYERS, Schedule, Training, feed, final_parameters, fit_teacher
from models.base.detector import versions

HEADS = (32, 64, 128)
"""Components that the heads learn; `final_parameters` makes the `CHANNELS` of the published weights from them."""
SIZES = (128, 192, 160, 224, 256)
"""Sizes of crops, the most frequent first."""


def main() -> int:
    """Parse the options, fit the targets, train, and write checkpoints and weights."""
    parser = Parser(prog="train_compact.py", description=__doc__)
    parser.add_argument("--steps", type=positive, default=40000, help="training steps in all")
    parser.add_argument("--minutes", type=float, default=None, help="stop earlier, after this time; resumable")
    parser.add_argument("--batch", type=positive, default=16, help="crops of 128x128 a step, fewer of larger ones")
    parser.add_argument(
        "--sizes", type=positive, nargs="+", default=list(SIZES), help="crop sizes, most frequent first"
    )
    parser.add_argument("--lr", type=rate, default=6e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=positive, default=500, help="steps until the learning rate is reached")
    parser.add_argument("--decay", type=rate, default=0.3, help="last share of the steps, in which the rate falls to 0")
    parser.add_argument("--weight_decay", type=float, default=0.01, help="AdamW's")
    parser.add_argument("--average", type=rate, default=0.999, help="what averaged weights keep per step")
    parser.add_argument("--seed", type=natural, default=521, help="decides pictures and first weights")
    parser.add_argument("--weights", default=None, help="resnet18's, as in train.py; 'random' for tests")
    parser.add_argument("--save_path", default="./output/compact", help="for the checkpoint and the result")
    parser.add_argument("--save_every", type=positive, default=1000, help="steps between checkpoints")
    parser.add_argument("--workers", type=natural, default=1, help="processes that draw pictures and run the teacher")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="the teacher's; bf16 is faster")
    parser.flag("resume", True, "go on from the checkpoint in --save_path, if there is one")
    parser.flag("cpu", False, "use the CPU even where there is a GPU")
    args = parser.parse()

    begin = time.perf_counter()
    folder = make_folder(args.save_path)
    checkpoint, result = folder / "checkpoint.safetensors", folder / "compact.safetensors"
    gpu = gpu_usable() and not args.cpu
    cv2.setNumThreads(1)
    crops = Crops(load_photographs(), args.seed, args.batch * 128**2, args.sizes)
    teacher = Backbone("resnet18", LAYERS, 128, args.weights, args.seed)
    print(f"teacher: resnet18, {teacher.source}; pictures: {len(crops.photographs)} photographs and drawn textures")
    settings = {
        **{name: getattr(args, name) for name in ("seed", "batch", "sizes", "average", "weight_decay", "precision")},
        "teacher": teacher.sha256,
        "photographs": pictures_sha256(crops.photographs),
    }
    schedule = Schedule(args.steps, args.lr, args.warmup, args.decay)
    training = Training(HEADS, schedule, args.average, settings, gpu)
    if args.resume and checkpoint.is_file():
        training.load(checkpoint)
        print(f"goes on from {checkpoint}: step {training.step} of {args.steps}", flush=True)

    with scratch_folder() as scratch:
        fitted, sizes = fit_teacher(teacher, HEADS, crops, Runtime(use_gpu=gpu), scratch / "plain")
        files = fitted.save(scratch / "teacher")
        steps = range(training.step, args.steps)
        batches = feed(crops, files, Runtime(use_gpu=gpu, threads=1, precision=args.precision), steps, args.workers)
        losses, mark = [], time.perf_counter()
        for batch in progress(batches, len(steps), "steps"):
            losses.append(training.train_step(batch))
            if training.step % min(100, args.save_every) == 0:
                now = time.perf_counter()
                pace, mark = (now - mark) / len(losses), now
                training.seconds += pace * len(losses)
                print(line(training, np.mean(losses, 0), pace), flush=True)
                losses = []
            late = args.minutes is not None and time.perf_counter() - begin > 60 * args.minutes
            if late or training.step % args.save_every == 0 or training.step == args.steps:
                training.save(checkpoint)
                ship(training, sizes, result)
            if late:
                break
        batches.close()
    ship(training, sizes, result)
    if training.step < args.steps:
        print(f"stopped at step {training.step} of {args.steps}: the same command goes on")
    print(f"weights: {result}")
    return 0


def line(training: Training, losses: np.ndarray, pace: float) -> str:
    """Return a line about the progress of training: step, losses, learning rate, time."""
    parts = " ".join(f"{layer} {loss:.4f}" for layer, loss in zip(LAYERS, losses))
    left = (training.schedule.steps - training.step) * pace / 60
    return (
        f"step {training.step}: loss {losses.sum():.4f} ({parts}), rate {training.schedule.at(training.step):.2e}, "
        f"{pace * 1e3:.0f} ms a step, {left:.0f} minutes left"
    )


def ship(training: Training, sizes: list[float], path: Path) -> Path:
    """Write the averaged weights as a backbone file."""
    recipe = {**training.settings, **training.schedule._asdict(), "step": training.step}
    return write_backbone(training.averaged, sizes, training.settings["seed"], recipe, path)


def write_backbone(
    averaged: dict[str, np.ndarray], sizes: list[float], seed: int, recipe: dict[str, Any], path: Path
) -> Path:
    """Write a student's averaged weights as a backbone file; `recipe` has the settings that they depend on."""
    header = {
        "kind": "backbone",
        "arch": "compact",
        "recipe": recipe,
        "seed": seed,
        "versions": versions(),
        "data": PHOTOGRAPHS,
    }
    return write_tensors(path, final_parameters(averaged, CHANNELS, sizes, seed), header)


if __name__ == "__main__":
    run_script(main)
