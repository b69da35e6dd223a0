"""Greedy k-center coreset (Roth 2021, algorithm 1), exact, with most of the distances pruned away."""

from __future__ import annotations

import math

import numba
import numpy as np

PROJECTED = 128  # dimensions of the random projection, as in the authors' code
BLOCK = 16  # a distance is summed block by block, and given up as soon as it is too large to matter


SAMPLERS = ("greedy", "approx_greedy", "random", "identity")
STARTS = 10  # of approximate greedy, as in the authors' code


def sample(features: np.ndarray, count: int, seed: int, sampler: str) -> np.ndarray:
    """Choose `count` rows of float32 [patches, channels] by one of SAMPLERS: int64 [chosen] row numbers.

    `greedy` is the paper's coreset, exact. `approx_greedy` is the authors' faster variant: it starts from the mean
    distance to STARTS random rows instead of from a first centre. `random` draws without looking, `identity` keeps all.
    """
    if sampler == "identity":
        return np.arange(len(features))
    if sampler == "random":
        return np.sort(np.random.default_rng(seed).choice(len(features), count, replace=False))
    if sampler == "approx_greedy":
        return approximate_coreset(features, count, seed)
    return greedy_coreset(features, count, seed)


def approximate_coreset(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Approximate greedy k-center on a random projection; arguments and result as in `greedy_coreset`."""
    random = np.random.default_rng(seed)
    projected = project(features, random)
    starts = random.choice(len(features), min(STARTS, len(features)), replace=False)
    mean = np.zeros(len(features))
    for start in starts:
        mean += np.linalg.norm(projected - projected[start], axis=1) / len(starts)
    return farthest_first(projected, count, (mean**2).astype(np.float32))


def greedy_coreset(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose `count` rows, each the one farthest from all chosen before, on a random projection.

    Args:
        features: float32 [patches, channels].
        count: rows wanted, 1 to patches.
        seed: decides the projection and the first centre.

    Returns:
        int64 [chosen] row numbers in the order of choice: the first centre comes first, none twice. Fewer than `count`
        when all remaining patches are exact copies of chosen ones.
    """
    random = np.random.default_rng(seed)
    projected = project(features, random)
    first = int(random.integers(len(features)))
    return k_center(projected, count, first)


def project(features: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A Gaussian random projection to at most PROJECTED dimensions (Johnson-Lindenstrauss), turned to principal axes.

    Turning leaves all distances as they are; it puts most of a distance into the first block of dimensions, so that
    `k_center` can give up early. Returns float32 [patches, dimensions], dimensions a multiple of BLOCK.
    """
    channels = features.shape[1]
    if channels > PROJECTED:
        matrix = random.standard_normal((channels, PROJECTED)).astype(np.float32) / np.float32(math.sqrt(PROJECTED))
        features = features @ matrix
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    turned = np.zeros((len(features), -(-features.shape[1] // BLOCK) * BLOCK), np.float32)
    turned[:, : features.shape[1]] = centred @ axes[:, ::-1].astype(np.float32)
    return turned


@numba.njit(inline="always")
def _squared(a: np.ndarray, b: np.ndarray, limit: float) -> float:
    """Squared distance of two rows, or some number >= limit as soon as the sum reaches it."""
    total = np.float32(0)
    for start in range(0, a.shape[0], BLOCK):
        part = np.float32(0)
        for i in range(start, start + BLOCK):
            step = a[i] - b[i]
            part += step * step
        total += part
        if total >= limit:
            break
    return total


@numba.njit(cache=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def farthest_first(points: np.ndarray, count: int, squared: np.ndarray) -> np.ndarray:
    """Choose the row with the largest of `squared` (changed in place), lower all to the distance from it, repeat.

    float32 [patches, dimensions] and [patches] to int64 [chosen]; fewer than `count` once all of `squared` are 0.
    """
    chosen = np.empty(min(count, len(points)), np.int64)
    for new in range(len(chosen)):
        point = np.argmax(squared)
        if squared[point] <= 0:
            return chosen[:new]
        chosen[new] = point
        for i in numba.prange(len(points)):
            distance = _squared(points[i], points[point], squared[i])
            if distance < squared[i]:
                squared[i] = distance
    return chosen


@numba.njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def k_center(points: np.ndarray, count: int, first: int) -> np.ndarray:
    """Exact greedy k-center: float32 [patches, dimensions] (a multiple of BLOCK) to int64 [chosen] row numbers.

    Every point knows its nearest centre, every centre its farthest point. A point can change to a new centre only if
    its distance to its own is more than half the distance between the two centres (triangle inequality), so a centre
    whose farthest point is nearer than that is passed over whole. Ties go to the lowest row number.
    """
    patches = points.shape[0]
    count = min(count, patches)
    chosen = np.empty(count, np.int64)
    squared = np.empty(patches, np.float32)  # of each point to its centre
    following = np.empty(patches, np.int64)  # linked list of a centre's points; -1 ends it
    head = np.full(count, -1, np.int64)
    far_squared = np.zeros(count, np.float32)
    far_point = np.zeros(count, np.int64)

    chosen[0] = first
    for i in range(patches):
        squared[i] = _squared(points[i], points[first], np.inf)
        following[i] = i + 1
        if squared[i] > far_squared[0]:
            far_squared[0] = squared[i]
            far_point[0] = i
    following[patches - 1] = -1
    head[0] = 0

    for new in range(1, count):
        best = 0
        for centre in range(1, new):
            if far_squared[centre] > far_squared[best] or (
                far_squared[centre] == far_squared[best] and far_point[centre] < far_point[best]
            ):
                best = centre
        if far_squared[best] <= 0:
            return chosen[:new]
        point = far_point[best]
        chosen[new] = point
        target = points[point]
        for centre in range(new):
            # 4.0001 and 0.2499: rounding must never prune a point that could change
            limit = np.float32(4.0001) * far_squared[centre]
            between = _squared(points[chosen[centre]], target, limit)
            if between >= limit:
                continue
            keep_below = np.float32(0.2499) * between
            previous = -1
            member = head[centre]
            far_squared[centre] = 0
            while member >= 0:
                after = following[member]
                moved = False
                if squared[member] > keep_below:
                    distance = _squared(points[member], target, squared[member])
                    if distance < squared[member]:
                        squared[member] = distance
                        moved = True
                if moved:
                    if previous < 0:
                        head[centre] = after
                    else:
                        following[previous] = after
                    following[member] = head[new]
                    head[new] = member
                    if distance > far_squared[new] or (distance == far_squared[new] and member < far_point[new]):
                        far_squared[new] = distance
                        far_point[new] = member
                else:
                    if squared[member] > far_squared[centre] or (
                        squared[member] == far_squared[centre] and member < far_point[centre]
                    ):
                        far_squared[centre] = squared[member]
                        far_point[centre] = member
                    previous = member
                member = after
    return chosen
