"""The greedy coreset compared with brute force, which computes every distance, on every set and on uniform noise."""

from __future__ import annotations

import math
import time
from typing import Callable

import numpy as np

from models.memory_bank.coreset import Sampler
from models.memory_bank.kcenter import k_center

from ..brute_force import brute_force_k_center
from ..points import NOISE, points_of
from ..report import Stage
from ..subject import METHODS, Subject
from ..timing import in_turns, spread

BLOCKS = (1, 2, 4, 8)
MANY = 200_000  # rows; from larger sets half the share is chosen, since brute force takes minutes


def run(subject: Subject) -> Stage:
    """Measure both on the same projected features of each set; AssertionError unless they choose the same rows."""
    stage = Stage("coreset", "the greedy choice; compilation and projection not counted", "run")
    compile_first()
    worst: list[tuple[float, str]] = []
    for category in (*subject.categories, None):
        points, name = points_of(subject, category), NOISE if category is None else category.name
        share = METHODS["patchcore"][1] / (1 if len(points) < MANY else 2)
        count = max(1, int(len(points) * share / 100))
        times, chosen = choose_both(points, count, subject.few)
        ours, brute = f"{name}: greedy coreset", f"{name}: brute force"
        gflop, gbyte = 3e-9 * count * points.size, 1e-9 * count * points.nbytes
        stage.add({ours: times[0], brute: times[1]}, {brute: gflop}, {brute: gbyte})
        stage.compare(ours, brute)
        worst.append((spread(stage.quotients[-1][2])[0], name))
        stage.notes.append(
            f"{name}: both choose the same {count} of {len(points)} patches ({share:g} %) in the same order; "
            f"{points.shape[1]} dimensions; radius {radius(points, chosen):.6g}"
        )
        if category is subject.category:
            stage.figures = in_blocks(subject, points)
    times, name = min(worst)
    stage.summary = f"coreset: {times:.3g} times as fast as brute force at worst, on {name}"
    stage.notes.append(
        f"the table, {subject.category.name}: choosing in blocks (--coreset_block), projection included; "
        "the radius in units of one block's"
    )
    return stage


def compile_first() -> None:
    """Let numba compile both before the measurements."""
    points = np.random.default_rng(0).random((64, 128), dtype=np.float32)
    for choose in (k_center, brute_force_k_center):
        choose(points, 8, 0)


def choose_both(points: np.ndarray, count: int, rounds: int) -> tuple[tuple[list[float], list[float]], np.ndarray]:
    """Return seconds of ours and of brute force, measured in turns, and the rows; AssertionError if they differ."""
    chosen: list[np.ndarray] = [np.empty(0), np.empty(0)]

    def choose(number: int, function: Callable[..., np.ndarray]) -> None:
        chosen[number] = function(points, count, len(points) // 3)

    calls = {"ours": lambda: choose(0, k_center), "brute": lambda: choose(1, brute_force_k_center)}
    times = in_turns(calls, rounds, warm=False)
    if not np.array_equal(*chosen):
        different = np.flatnonzero(chosen[0] != chosen[1])[0]
        raise AssertionError(f"the coreset differs from brute force, first at {different}")
    return (times["ours"], times["brute"]), chosen[0]


def in_blocks(subject: Subject, points: np.ndarray) -> list[dict[str, float]]:
    """Return time and radius of the coreset for several numbers of blocks (merge and reduce)."""
    features, found, exact = subject.features(), [], None
    for blocks in BLOCKS:
        block, k = math.ceil(len(features) / blocks), METHODS["patchcore"][1]
        sampler = Sampler("greedy", features.shape[1], len(features), k, block, subject.seed)
        begin = time.perf_counter()
        for part in np.array_split(features, len(subject.category.train_pictures())):
            sampler.add(part)
        chosen = sampler.choose()
        seconds, reached = time.perf_counter() - begin, radius(points, chosen)
        exact = exact or reached
        found.append({"blocks": blocks, "rows a block": block, "seconds": seconds, "radius": reached / exact})
    return found


def radius(points: np.ndarray, chosen: np.ndarray) -> float:
    """Return the largest distance from a point to its nearest chosen point."""
    centres = points[chosen]
    norms, worst = (centres * centres).sum(1), 0.0
    for start in range(0, len(points), 1024):
        part = points[start : start + 1024]
        nearest = np.argmin(norms - 2 * part @ centres.T, axis=1)
        worst = max(worst, float(np.linalg.norm(part - centres[nearest], axis=1).max()))
    return worst
