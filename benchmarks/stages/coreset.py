"""The greedy coreset against brute force, which computes every distance."""

from __future__ import annotations

import math
import time

import numpy as np

from deploy.runtime.program import release_memory
from models.memory_bank.coreset import Sampler, principal_axes, projection
from models.memory_bank.kcenter import k_center

from ..brute_force import brute_force_k_center
from ..report import Stage
from ..subject import METHODS, Subject
from ..timing import in_turns

OURS, BRUTE = "greedy coreset", "brute force"
BLOCKS = (1, 2, 4, 8)


def run(subject: Subject) -> Stage:
    """Both on the same projected features; AssertionError unless they choose the same rows."""
    random = np.random.default_rng(subject.seed)
    points = subject.features() @ projection(subject.features().shape[1], random)
    mean, axes = principal_axes(points)
    release_memory()  # as in a fit: new memory comes in huge pages then, where the system has them
    points = (points - mean) @ axes
    first, count = int(random.integers(len(points))), int(len(points) * METHODS["patchcore"][1] / 100)
    title = f"{count} of {len(points)} patches, {points.shape[1]} dimensions; compilation and projection not counted"
    stage = Stage("coreset", title, "coreset")
    for compile_first in (k_center, brute_force_k_center):
        compile_first(points[:64], 8, 0)
    chosen: dict[str, np.ndarray] = {}

    def choose(name: str, function: object) -> None:
        chosen[name] = function(points, count, first)

    calls = {OURS: lambda: choose(OURS, k_center), BRUTE: lambda: choose(BRUTE, brute_force_k_center)}
    times = in_turns(calls, subject.few, warm=False)
    if not np.array_equal(chosen[OURS], chosen[BRUTE]):
        raise AssertionError(
            f"the coreset differs from brute force, first at {np.flatnonzero(chosen[OURS] != chosen[BRUTE])[0]}"
        )
    work = {BRUTE: 3e-9 * count * points.size}
    stage.add(times, work, {BRUTE: 1e-9 * count * points.nbytes})
    stage.compare(OURS, BRUTE)
    stage.notes.append(
        f"both choose the same {count} rows in the same order; radius {radius(points, chosen[OURS]):.6g}"
    )
    stage.figures = in_blocks(subject, points)
    stage.notes.append(
        "the table: choosing in blocks (--coreset_block), projection included; the radius in units of one block's"
    )
    return stage


def in_blocks(subject: Subject, points: np.ndarray) -> list[dict[str, float]]:
    """Time and radius of the coreset of so many blocks, merged and reduced."""
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
    """The largest distance from a point to its nearest chosen one."""
    centres = points[chosen]
    norms, worst = (centres * centres).sum(1), 0.0
    for start in range(0, len(points), 1024):
        part = points[start : start + 1024]
        nearest = np.argmin(norms - 2 * part @ centres.T, axis=1)
        worst = max(worst, float(np.linalg.norm(part - centres[nearest], axis=1).max()))
    return worst
