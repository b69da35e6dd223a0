"""The training of `train_compact.py` in PyTorch, for a machine with a GPU that Paddle's package does not run on.

    python benchmarks/compact_torch.py --job job.npz --steps 33000 --result trained.npz

`benchmarks/compact_job.py` writes the job and reads the result. This needs PyTorch, torchvision and OpenCV, and of this
repository `datasets/pretraining` alone. With `--batch 16 --variants 1 --lr 6e-3` and the same decay it takes the steps
of `train_compact.py`, but for rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.pretraining.crops import Crops

LAYERS = ("layer1", "layer2", "layer3")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EVERY = 4
"""Steps between two updates of the averaged parameters."""
BUFFERS = {"running_mean": "_mean", "running_var": "_variance"}
"""PyTorch's names of the statistics of batch normalisation, and Paddle's."""
Arrays = dict[str, np.ndarray]


def paddles(name: str) -> str:
    """Return Paddle's name of a parameter or buffer of PyTorch."""
    last = name.rpartition(".")[2]
    return name.removesuffix(last) + BUFFERS.get(last, last)


def load(net: nn.Module, arrays: Arrays) -> None:
    """Load Paddle's arrays; parameters that are not among them (numbers of batches, unused layers) are not changed."""
    state = net.state_dict()
    state |= {name: torch.from_numpy(arrays[paddles(name)]) for name in state if paddles(name) in arrays}
    net.load_state_dict(state)


def convolution(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """Convolution and normalisation, without an activation."""
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside))


class Residual(nn.Module):
    """relu(x + f(x)), f a normalised 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute [batch, channels, height, width] from an input of the same shape."""
        return nn.functional.relu(x + self.branch(x))


class Student(nn.Module):
    """`models.backbones.compact.Compact`, layer by layer, with the weights that Paddle drew."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        heads = [arrays[f"{layer}.weight"].shape for layer in LAYERS]
        at4, at8, at16 = (shape[1] for shape in heads)
        self.stage1 = nn.Sequential(
            *(convolution(3, 16, 2), nn.ReLU(), convolution(16, at4, 2), nn.ReLU()), Residual(at4)
        )
        self.stage2 = nn.Sequential(convolution(at4, at8, 2), nn.ReLU(), *(Residual(at8) for _ in range(2)))
        self.stage3 = nn.Sequential(convolution(at8, at16, 2), nn.ReLU(), *(Residual(at16) for _ in range(3)))
        self.layer1, self.layer2, self.layer3 = (nn.Conv2d(shape[1], shape[0], 1) for shape in heads)
        load(self, arrays)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute one [batch, channels, h, w] per layer from normalised [batch, 3, height, width]."""
        first = self.stage1(x)
        second = self.stage2(first)
        return [self.layer1(first), self.layer2(second), self.layer3(self.stage3(second))]


class Teacher(nn.Module):
    """Three layers of ResNet-18, projected to their principal components."""

    def __init__(self, arrays: Arrays, turns: Arrays) -> None:
        super().__init__()
        self.net = resnet18().eval()
        load(self.net, arrays)
        shapes = [turns[f"{number}.weight"].shape for number in range(len(LAYERS))]
        self.turns = nn.ModuleList(nn.Conv2d(shape[1], shape[0], 1) for shape in shapes)
        load(self.turns, turns)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute one [batch, channels, h, w] per layer from normalised [batch, 3, height, width]."""
        net, found = self.net, []
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        for stage, turn in zip((net.layer1, net.layer2, net.layer3), self.turns):
            x = stage(x)
            found.append(turn(x))
        return found


class Batches(torch.utils.data.Dataset):
    """Dataset whose item number `step` is a batch, uint8 RGB [count, size, size, 3], drawn in the worker process."""

    def __init__(self, crops: Crops, steps: int) -> None:
        self.crops, self.steps = crops, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> torch.Tensor:
        cv2.setNumThreads(1)
        return torch.from_numpy(self.crops(step))


def variants(images: torch.Tensor, count: int, random: np.random.Generator) -> torch.Tensor:
    """Return the crops, and `count` - 1 copies rotated by right angles or mirrored: cheap, and new to both networks."""
    several = [images]
    for kind in random.permutation(np.arange(1, 8))[: count - 1]:
        turned = torch.rot90(images, int(kind) % 4, (2, 3))
        several.append(turned.flip(3) if kind >= 4 else turned)
    return torch.cat(several)


class Average:
    """The student's averaged parameters and statistics, which become the published weights."""

    def __init__(self, student: nn.Module, keep: float) -> None:
        state = {name: value for name, value in student.state_dict().items() if value.is_floating_point()}
        self.names, self.now, self.keep = list(state), list(state.values()), keep
        self.values = [value.clone() for value in self.now]

    def add(self, step: int) -> None:
        """Update the average with the student's parameters after `step` steps."""
        keep = min(self.keep**EVERY, (1 + step) / (100 + step))
        torch._foreach_lerp_(self.values, self.now, 1 - keep)

    def save(self, path: Path, recipe: dict[str, Any]) -> None:
        """Write the averages with Paddle's names, completely or not at all."""
        arrays = {paddles(name): value.cpu().contiguous().numpy() for name, value in zip(self.names, self.values)}
        aside = path.with_name(f".{path.name}")
        np.savez(aside, recipe=json.dumps(recipe), **arrays)
        aside.replace(path)


def rate(step: int, args: argparse.Namespace) -> float:
    """Return the learning rate of a step, as in `models.backbones.distillation.Schedule`."""
    stable = args.steps - int(args.steps * args.decay)
    if step < stable:
        return args.lr * min(1.0, (step + 1) / args.warmup)
    return args.lr * 0.5 * (1 + math.cos(math.pi * (step - stable) / max(1, args.steps - stable)))


def line(step: int, losses: Sequence[torch.Tensor], seconds: float) -> str:
    """Return a line with the mean losses of some steps and the time per step."""
    mean = torch.stack(list(losses)).mean(0).tolist()
    parts = " ".join(f"{layer} {loss:.4f}" for layer, loss in zip(LAYERS, mean))
    return f"step {step}: loss {sum(mean):.4f} ({parts}), {seconds / len(losses) * 1e3:.1f} ms a step"


def main() -> None:
    """Parse the options, train, and write the averaged weights regularly and at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True, help="receives the averaged weights")
    parser.add_argument("--steps", type=int, default=33000)
    parser.add_argument("--batch", type=int, default=64, help="crops of 128x128 drawn a step, fewer of larger ones")
    parser.add_argument("--variants", type=int, default=2, help="1 to 8: of each crop, turned and mirrored")
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--decay", type=float, default=0.8, help="last share of the steps: the rate falls to 0")
    parser.add_argument("--average", type=float, default=0.999, help="what averaged weights keep per step")
    parser.add_argument("--workers", type=int, default=15, help="processes that draw")
    parser.add_argument("--report", type=int, default=1000, help="steps between two lines and files")
    args = parser.parse_args()

    with np.load(args.job, allow_pickle=False) as file:
        told, arrays = json.loads(str(file["told"])), {key: file[key] for key in file.files if "|" in key}
    teachers, students, turns, photographs = (
        {key.split("|")[1]: value for key, value in arrays.items() if key.startswith(f"{name}|")}
        for name in ("teacher", "student", "turn", "photograph")
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    student = Student(students).to(device, memory_format=torch.channels_last).train()
    teacher = Teacher(teachers, turns).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1.0, weight_decay=0.01, fused=device.type == "cuda")
    average = Average(student, args.average)
    scale, shift = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (DEVIATION, MEAN))
    recipe = {name: getattr(args, name) for name in ("steps", "batch", "variants", "lr", "warmup", "decay", "average")}
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    recipe |= {"sizes": told["sizes"], "teacher": told["teacher"], "torch": torch.__version__, "device": where}
    crops = Crops([photographs[name] for name in sorted(photographs)], told["seed"], args.batch * 128**2, told["sizes"])
    loader = torch.utils.data.DataLoader(
        Batches(crops, args.steps),
        batch_size=None,
        num_workers=args.workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=8 if args.workers else None,
    )

    losses, mark = [], time.perf_counter()
    for step, drawn in enumerate(loader, 1):
        images = (drawn.to(device, non_blocking=True).permute(0, 3, 1, 2).float() - shift) / scale
        images = variants(images, args.variants, np.random.default_rng([told["seed"], step - 1, 1]))
        images = images.contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = rate(step - 1, args)
        each = torch.stack([nn.functional.mse_loss(*pair) for pair in zip(student(images), teacher(images))])
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
        losses.append(each.detach())
        if step % EVERY == 0:
            average.add(step)
        if step % args.report == 0 or step == args.steps:
            print(line(step, losses, time.perf_counter() - mark), flush=True)
            losses, mark = [], time.perf_counter()
            average.save(args.result, {**recipe, "step": step})


if __name__ == "__main__":
    main()
