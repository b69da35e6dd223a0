"""Distillation: a small backbone is trained to predict the features of a large one.

The data of a step depends only on the step's number and the seed, and everything that a step changes is in the
checkpoint. So a run that was interrupted continues as if it had not been.
"""

from __future__ import annotations

import math
import multiprocessing
import queue
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.program import Program, Runtime, save_program
from deploy.storage.tensors import read_tensors, write_tensors

from .backbone import Backbone
from .compact import Compact

LAYERS = ("layer1", "layer2", "layer3")
FITTING_BATCHES = range(1_000_000_000, 1_000_000_024)
"""Numbers of the batches that the teacher's components are fitted on; training never reaches these numbers."""
AVERAGE_EVERY = 4
"""Steps between two updates of the averaged parameters."""
Draw = Callable[[int], np.ndarray]
"""Function from a batch's number to uint8 RGB [count, size, size, 3]; it is pickled for the worker processes."""
Files = tuple[Path, Path]


class Batch(NamedTuple):
    """Images and targets of one training step."""

    images: np.ndarray
    """uint8 RGB [count, size, size, 3]."""
    targets: list[np.ndarray]
    """float32 [count, channels, h, w] per layer."""


class Teacher(nn.Layer):
    """A backbone's features, standardised by channel and projected to their principal components.

    The projection is orthogonal, so distances change only by what the dropped components carry. Then all channels of a
    layer are scaled by one factor, so that their mean variance is 1. So a layer's loss is the share of its variance
    that the student does not explain. Without `channels`, the features stay as they are.
    """

    def __init__(self, backbone: Backbone, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        kept = channels or [feature.channels for feature in backbone.features]
        self.turns = nn.LayerList([nn.Conv2D(f.channels, k, 1) for f, k in zip(backbone.features, kept)])
        self.plain = channels is None

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        """Compute one [batch, channels, h, w] per layer from normalised float32 [batch, 3, height, width]."""
        features = self.backbone(image)
        return features if self.plain else [turn(feature) for turn, feature in zip(self.turns, features)]

    def save(self, folder: str | Path) -> Files:
        """Write the program, which takes pictures of any size."""
        return save_program(self, [InputSpec([None, 3, None, None], "float32", "image")], folder)


def fit_teacher(
    backbone: Backbone, channels: Sequence[int], draw: Draw, runtime: Runtime, folder: Path
) -> tuple[Teacher, list[float]]:
    """Fit every layer's principal components on batches of `draw`; `folder` is for the backbone's program.

    Returns the teacher, and for each layer a factor by which its targets become as large as the backbone's features.
    """
    plain = Program(*Teacher(backbone).save(folder), runtime)
    sums: list[list[Any]] = [[0, 0.0, 0.0] for _ in LAYERS]
    for number in FITTING_BATCHES:
        for total, feature in zip(sums, plain.run(normalised(draw(number)))):
            rows = feature.transpose([0, 2, 3, 1]).reshape(-1, feature.shape[1]).astype(np.float64)
            total[0] += len(rows)
            total[1] += rows.sum(0)
            total[2] += rows.T @ rows
    teacher = Teacher(backbone, channels)
    sizes = []
    for turn, (count, first, second), kept in zip(teacher.turns, sums, channels):
        mean = first / count
        covariance = second / count - np.outer(mean, mean)
        deviation = np.sqrt(np.diag(covariance)) + 1e-6
        values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
        values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
        matrix = (vectors / deviation[:, None]).T / np.sqrt(values.mean())
        sizes.append(float(np.sqrt(values.mean() * np.mean(deviation**2))))
        turn.weight.set_value(matrix[:, :, None, None].astype(np.float32))
        turn.bias.set_value((-matrix @ mean).astype(np.float32))
    return teacher, sizes


def normalised(images: np.ndarray) -> np.ndarray:
    """Convert uint8 RGB [count, size, size, 3] to the network's input, float32 [count, 3, size, size]."""
    return Preprocess(images.shape[1], images.shape[1]).normalise(images)


def feed(draw: Draw, teacher: Files, runtime: Runtime, steps: range, workers: int) -> Iterator[Batch]:
    """Yield the batches of `steps` in order; `workers` processes compute them ahead (0: this process, when needed).

    They are processes and not threads, because a running program holds Python's lock.
    """
    if workers == 0:
        program = Program(*teacher, runtime)
        for step in steps:
            yield _batch(draw, program, step)
        return
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(3) for _ in range(workers)]
    processes = [
        context.Process(
            target=_work, args=(draw, teacher, runtime, steps[number::workers], queues[number]), daemon=True
        )
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for index in range(len(steps)):
            number = index % workers
            while True:
                try:
                    batch = queues[number].get(timeout=5)
                    break
                except queue.Empty:
                    if not processes[number].is_alive():
                        raise RuntimeError("a feeding process died; its message is above") from None
            yield batch
    finally:
        for process in processes:
            process.kill()  # it has nothing to save, and on SIGTERM Paddle would print a report
            process.join()


def _work(draw: Draw, teacher: Files, runtime: Runtime, steps: range, results: Any) -> None:
    """Worker process of `feed`."""
    program = Program(*teacher, runtime)
    for step in steps:
        batch = _batch(draw, program, step)
        while True:
            try:
                results.put(batch, timeout=5)
                break
            except queue.Full:
                if not multiprocessing.parent_process().is_alive():
                    results.cancel_join_thread()  # training was killed: nobody will read the remaining batches
                    return


def _batch(draw: Draw, program: Program, step: int) -> Batch:
    images = draw(step)
    return Batch(images, program.run(normalised(images)))


class Schedule(NamedTuple):
    """Learning rate over the steps: linear warm-up, constant, then half a cosine down to 0.

    Before the decay begins, the rate does not depend on the number of steps, so a run can still be made longer then.
    """

    steps: int
    rate: float
    warmup: int
    decay: float
    """Share of all steps, the last ones, over which the rate falls."""

    def at(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        if step < self.stable():
            return self.rate * min(1.0, (step + 1) / self.warmup)
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - self.stable()) / max(1, self.steps - self.stable())))

    def stable(self) -> int:
        """Number of the first step of the decay."""
        return self.steps - int(self.steps * self.decay)


def first_student(channels: Sequence[int], seed: int) -> Compact:
    """Return a student with the weights at the start of training."""
    paddle.seed(seed)
    student = Compact(channels)
    for layer in LAYERS:
        # zero heads predict the mean feature; from random heads, training took six times as many steps
        head = getattr(student, layer)
        head.weight.set_value(paddle.zeros_like(head.weight))
    return student


class Training:
    """The state of training: the student, and everything that its next step depends on.

    Args:
        channels: output channels of the student's heads.
        schedule: learning rates.
        average: decay of the moving average of the parameters, per step.
        settings: all other settings that change the result; a checkpoint with different ones is refused.
        gpu: train on the GPU.
    """

    def __init__(
        self, channels: Sequence[int], schedule: Schedule, average: float, settings: dict[str, Any], gpu: bool
    ) -> None:
        paddle.set_device("gpu" if gpu else "cpu")
        self.student = first_student(channels, settings["seed"])
        self.optimizer = paddle.optimizer.AdamW(
            schedule.rate, parameters=self.student.parameters(), weight_decay=settings["weight_decay"]
        )
        self.schedule, self.keep, self.settings = schedule, average, settings
        self.step, self.seconds = 0, 0.0
        self.student.train()
        warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle's, about BatchNorm
        self.averaged = self._state()

    def train_step(self, batch: Batch) -> np.ndarray:
        """Train one step; return the loss of each layer."""
        self.optimizer.set_lr(self.schedule.at(self.step))
        losses = []
        for output, target in zip(self.student(paddle.to_tensor(normalised(batch.images))), batch.targets):
            error = output - paddle.to_tensor(target)
            losses.append((error * error).mean())  # not `error**2`, whose gradient is slow on the CPU
        paddle.add_n(losses).backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.step += 1
        if self.step % AVERAGE_EVERY == 0:
            keep = min(self.keep**AVERAGE_EVERY, (1 + self.step) / (100 + self.step))
            for name, value in self._state().items():
                self.averaged[name] += np.float32(1 - keep) * (value - self.averaged[name])
        return np.array([float(loss) for loss in losses])

    def _state(self) -> dict[str, np.ndarray]:
        return {name: value.numpy().copy() for name, value in self.student.state_dict().items()}

    def _adam(self) -> dict[str, str]:
        """The optimizer's names of its arrays, by names that are the same in every process.

        The optimizer's own names contain the number of layers created so far in the process.
        """
        names = {parameter.name: name for name, parameter in self.student.named_parameters()}
        found = {}
        for key in self.optimizer.state_dict():
            owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
            if owner is not None:
                found[f"{names[owner]}|{key[len(owner) + 1 :]}"] = key
        return found

    def save(self, path: str | Path) -> Path:
        """Write the checkpoint, whole or not at all."""
        state = self.optimizer.state_dict()
        tensors = {f"net|{name}": value for name, value in self._state().items()}
        tensors |= {f"average|{name}": value for name, value in self.averaged.items()}
        tensors |= {f"adam|{name}": state[key].numpy() for name, key in self._adam().items()}
        header = {"kind": "training", "settings": self.settings, "step": self.step, "seconds": round(self.seconds)}
        return write_tensors(path, tensors, {**header, "schedule": self.schedule._asdict()})

    def load(self, path: str | Path) -> None:
        """Continue from a checkpoint that `save` wrote; UserError if it was trained with other settings."""
        tensors, header = read_tensors(path, "training")
        former = Schedule(**{name: header["schedule"][name] for name in Schedule._fields})
        self._check(path, header, former)
        parts: dict[str, dict[str, np.ndarray]] = {"net": {}, "average": {}, "adam": {}}
        for name, value in tensors.items():
            part, name = name.split("|", 1)
            parts[part][name] = value
        self.student.set_state_dict({name: paddle.to_tensor(value) for name, value in parts["net"].items()})
        self.averaged = {name: value.copy() for name, value in parts["average"].items()}
        names = {name: parameter.name for name, parameter in self.student.named_parameters()}
        state = {}
        for key, value in parts["adam"].items():
            name, kind = key.split("|")
            state[f"{names[name]}_{kind}"] = paddle.to_tensor(value)
        self.optimizer.set_state_dict(state)
        self.step, self.seconds = header["step"], float(header["seconds"])

    def _check(self, path: str | Path, header: dict[str, Any], former: Schedule) -> None:
        for name, value in self.settings.items():
            if header["settings"].get(name) != value:
                raise UserError(
                    f"{path} was trained with {name} {header['settings'].get(name)}, not {value}: give the former "
                    f"settings, or start anew with --resume False"
                )
        constant = min(former.stable(), self.schedule.stable())
        same = (former.rate, former.warmup) == (self.schedule.rate, self.schedule.warmup)
        if former != self.schedule and (not same or header["step"] > constant):
            raise UserError(
                f"{path} is at step {header['step']} of a schedule of {former.steps} steps, and another one would "
                f"have gone differently by now: give the former --steps and --lr, or start anew with --resume False"
            )


def final_parameters(
    averaged: dict[str, np.ndarray], channels: Sequence[int], sizes: Sequence[float], seed: int
) -> dict[str, np.ndarray]:
    """The parameters to publish. Each head keeps its first `channels` components, scaled by `sizes`, randomly rotated.

    The scaling makes features as large as the teacher's. So each layer keeps its weight in a distance, and `--eps` its
    meaning. The rotation gives all channels of a layer about the same variance, so that a method that draws some of the
    channels loses equally with any choice. It does not change distances; a layer with more channels than components
    spreads the components over its channels. Convolution weights are stored as float16, which halves the file.
    """
    state = dict(averaged)
    random = np.random.default_rng(seed)
    for layer, count, size in zip(LAYERS, channels, sizes):
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        kept = min(count, len(weight))
        turn = np.linalg.qr(random.standard_normal((count, kept)))[0]  # columns are orthonormal
        turn = (turn * size).astype(np.float32)
        state[f"{layer}.weight"] = (turn @ weight[:kept, :, 0, 0])[:, :, None, None]
        state[f"{layer}.bias"] = turn @ bias[:kept]
    return {name: value.astype(np.float16) if value.ndim == 4 else value for name, value in state.items()}
