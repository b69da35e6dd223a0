"""Exact greedy k-center (farthest-first traversal), with most of the distances pruned away.

Every chosen row is the centre of a cluster, the rows nearest to it. A row can change to a new centre only if its
distance to its own is more than half the distance between the two centres (triangle inequality), so a cluster whose
farthest row is nearer than that is passed over whole. The clusters are dealt out to the threads.

Distances that decide anything are summed in double precision in one fixed order. Cheaper ones tell beforehand which of
them can matter: over the first dimensions, in 16-bit fixed point and lying in the order of the clusters, so that little
comes from far in memory; then in float32. Each has a margin above its rounding, so the choice is the same on every
machine and with any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

HEAD = 16  # dimensions of the centres that are looked at first, all centres at once
NEAR = 64  # dimensions of a row that are looked at first
CHUNK = 256  # centres looked at together
THREADS = 8  # at most
MARGIN = 1.0001  # float32 sums are off by less, relative to the sum
PACKED = 1.001  # for fixed point, off by e: (a + e)^2 <= PACKED (a^2 + e^2 / (PACKED - 1)), whatever a and e
SORT_FROM = 32  # so many centres in, and whenever they have doubled, what is looked at first is sorted by cluster
FAST = {"reassoc", "contract", "nsz"}
ONLY_PRANGE = {
    "prange": True,
    **dict.fromkeys(("comprehension", "numpy", "reduction", "inplace_binop", "setitem", "stencil", "fusion"), False),
}


class State(NamedTuple):
    """The clusters; the first dimension of everything is the thread. Cluster 0 is what no centre has taken yet."""

    heads: np.ndarray
    """float32 [threads, HEAD, clusters]: the centres' first dimensions."""
    centres: np.ndarray
    """int16 [threads, clusters, NEAR]: more of them, in fixed point."""
    limits: np.ndarray
    """float32 [threads, clusters]: a new centre at this squared distance or beyond changes nothing."""
    start: np.ndarray
    """int64 [threads, clusters]: where the cluster's part of `members` and `squared` starts."""
    length: np.ndarray
    """int64 [threads, clusters]."""
    far: np.ndarray
    """float64 [threads, clusters]: the largest of `squared`."""
    far_row: np.ndarray
    """int64 [threads, clusters]: the lowest row that has it."""
    members: np.ndarray
    """int32 [threads, room]: the cluster's rows, as places in the order that was last sorted to."""
    squared: np.ndarray
    """float64 [threads, room]: their squared distances to the centre."""
    moved: np.ndarray
    """int32 [threads, rows]: places of the rows that change to the new centre."""
    moved_squared: np.ndarray
    """float64 [threads, rows]."""
    found: np.ndarray
    """int64 [threads, clusters + 1]: scratch."""
    some: np.ndarray
    """int32 [threads, 2, rows + 1]: scratch."""


def k_center(
    points: np.ndarray, count: int, first: int, squared: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    """Choose `first`, then again and again the row farthest from all chosen; ties go to the lowest row number.

    Args:
        points: float32 [rows, dimensions], dimensions a multiple of 16; faster when the first ones vary most.
        count: rows wanted.
        first: the first one.
        squared: [rows], squared distances to begin with, as if something had been chosen already.
        threads: decides nothing but the time; default one per core.

    Returns:
        int64 [chosen] row numbers in the order of choice; fewer than `count` once every row is a copy of a chosen one.
    """
    rows = len(points)
    count, threads = min(count, rows), threads or min(numba.get_num_threads(), THREADS)
    clusters, room = count // threads + 3, rows + rows // 4 + 1
    near = np.empty((rows, min(NEAR, points.shape[1])), np.int16)  # by numpy, which asks for huge pages
    unit = max(float(points.max()), -float(points.min())) / np.iinfo(np.int16).max or 1.0
    shape = (threads, clusters)
    state = State(
        heads=np.zeros((threads, HEAD, clusters), np.float32),
        centres=np.zeros((*shape, near.shape[1]), np.int16),
        limits=np.full(shape, -1, np.float32),
        start=np.zeros(shape, np.int64),
        length=np.zeros(shape, np.int64),
        far=np.full(shape, -1.0),
        far_row=np.zeros(shape, np.int64),
        members=np.empty((threads, room), np.int32),
        squared=np.empty((threads, room)),
        moved=np.empty((threads, rows), np.int32),
        moved_squared=np.empty((threads, rows)),
        found=np.empty((threads, clusters + 1), np.int64),
        some=np.empty((threads, 2, rows + 1), np.int32),
    )
    known = np.full(rows, np.inf) if squared is None else squared.astype(np.float64)
    for thread, part in enumerate(np.array_split(np.arange(rows), threads)):
        state.members[thread, : len(part)] = part
        state.squared[thread, : len(part)] = known[part]
        state.length[thread, 0], state.limits[thread, 0] = len(part), np.inf
    return _choose(np.ascontiguousarray(points), count, first, unit, near, state)


@numba.njit(cache=True)
def exact(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of two float32 rows, in double precision and a fixed order of summation."""
    s0 = s1 = s2 = s3 = 0.0
    for i in range(0, a.shape[0], 4):
        d0, d1 = np.float64(a[i]) - b[i], np.float64(a[i + 1]) - b[i + 1]
        d2, d3 = np.float64(a[i + 2]) - b[i + 2], np.float64(a[i + 3]) - b[i + 3]
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    return (s0 + s1) + (s2 + s3)


@numba.njit(cache=True, fastmath=FAST)
def roughly(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of two float32 rows over the dimensions of `b`, to within MARGIN."""
    total = np.float32(0)
    for i in range(len(b)):
        step = a[i] - b[i]
        total += step * step
    return total


@numba.njit(cache=True)
def _farthest(members: np.ndarray, squared: np.ndarray, row: np.ndarray) -> tuple[float, int]:
    """The largest of `squared` and the lowest row that has it; -1 when there is none."""
    far, point = -1.0, 0
    for i in range(len(members)):
        if squared[i] > far or (squared[i] == far and row[members[i]] < point):
            far, point = squared[i], row[members[i]]
    return far, point


@numba.njit(cache=True, fastmath=FAST)
def _approached(heads: np.ndarray, limits: np.ndarray, target: np.ndarray, found: np.ndarray) -> int:
    """Write to `found` the clusters whose centre is within its limit of `target`, as far as `heads` tell; how many."""
    count, lower = 0, np.empty(CHUNK, np.float32)
    for begin in range(0, len(limits), CHUNK):
        limit = limits[begin : begin + CHUNK]
        low = lower[: len(limit)]
        low[:] = 0
        for d in range(0, HEAD, 4):  # four dimensions at a time: fewer passes over `low`
            h0, h1, h2, h3 = heads[d, begin:], heads[d + 1, begin:], heads[d + 2, begin:], heads[d + 3, begin:]
            t0, t1, t2, t3 = target[d], target[d + 1], target[d + 2], target[d + 3]
            for i in range(len(low)):
                s0, s1, s2, s3 = h0[i] - t0, h1[i] - t1, h2[i] - t2, h3[i] - t3
                low[i] += s0 * s0 + s1 * s1 + s2 * s2 + s3 * s3
        for i in range(len(low)):
            found[count] = begin + i
            count += low[i] <= limit[i]
    return count


@numba.njit(cache=True)
def _pack(points: np.ndarray, unit: float, packed: np.ndarray) -> None:
    """Write the first dimensions to `packed`, int16 [rows, NEAR or fewer], in fixed point: multiples of `unit`."""
    for i in range(packed.shape[0]):
        for j in range(packed.shape[1]):
            packed[i, j] = np.rint(points[i, j] / unit)


@numba.njit(cache=True, fastmath=FAST)
def _packed(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of an int16 row and a whole-numbered float32 row, to within MARGIN."""
    total = np.float32(0)
    for i in range(len(b)):
        step = np.float32(a[i]) - b[i]
        total += step * step
    return total


@numba.njit(cache=True)
def _near(
    near: np.ndarray,
    close: np.ndarray,
    scale: float,
    slack: float,
    members: np.ndarray,
    squared: np.ndarray,
    some: np.ndarray,
    count: int,
) -> int:
    """Keep of the first `count` in `some` those that may be nearer to the target, as far as fixed point tells."""
    kept = 0
    for i in range(count):  # no branch: many rows are on their way from memory at a time
        slot, cluster = some[0, i], some[1, i]
        some[0, kept], some[1, kept] = slot, cluster
        kept += scale * _packed(near[members[slot]], close) <= squared[slot] + slack
    return kept


@numba.njit(cache=True)
def _within(
    points: np.ndarray,
    target: np.ndarray,
    row: np.ndarray,
    members: np.ndarray,
    squared: np.ndarray,
    some: np.ndarray,
    count: int,
) -> int:
    """Keep of the first `count` in `some` those that may be nearer to `target` than to their centre; how many."""
    kept = 0
    for i in range(count):
        slot, cluster = some[0, i], some[1, i]
        some[0, kept], some[1, kept] = slot, cluster
        kept += roughly(points[row[members[slot]]], target) <= MARGIN * squared[slot]
    return kept


@numba.njit(cache=True)
def _part(  # noqa: ANN202
    state: State,
    t: int,
    used: int,
    near: np.ndarray,
    close: np.ndarray,
    unit: float,
    points: np.ndarray,
    row: np.ndarray,
    target: np.ndarray,
):
    """Take from one thread's clusters what is nearer to `target`: how many rows, and the farthest that stays."""
    limits, start, length = state.limits[t, :used], state.start[t], state.length[t]
    far, far_row, members, squared = state.far[t], state.far_row[t], state.members[t], state.squared[t]
    found, some = state.found[t], state.some[t]
    approached = _approached(state.heads[t], limits, target, found)
    count, scale = 0, unit**2 / (PACKED * MARGIN)
    slack = len(close) * unit**2 / (PACKED - 1)  # two rows are rounded, so each dimension is off by a unit at most
    for i in range(approached):
        cluster = found[i]
        keep = -1.0
        if cluster > 0:
            between = scale * _packed(state.centres[t, cluster], close) - slack
            if between > limits[cluster]:
                continue
            keep = between / (4 * MARGIN)
        for slot in range(start[cluster], start[cluster] + length[cluster]):
            some[0, count], some[1, count] = slot, cluster
            count += squared[slot] > keep
    count = _near(near, close, scale, slack, members, squared, some, count)
    count = _within(points, target, row, members, squared, some, count)
    moved = 0
    for i in range(count - 1, -1, -1):  # backwards, so that the last member, which fills the gap, has been looked at
        slot, cluster = some[0, i], some[1, i]
        distance = exact(points[row[members[slot]]], target)
        if distance < squared[slot]:
            state.moved[t, moved], state.moved_squared[t, moved] = members[slot], distance
            moved += 1
            if row[members[slot]] == far_row[cluster]:
                far[cluster] = -2
            length[cluster] -= 1
            last = start[cluster] + length[cluster]
            members[slot], squared[slot] = members[last], squared[last]
    for i in range(approached):
        cluster = found[i]
        if far[cluster] == -2:
            here = slice(start[cluster], start[cluster] + length[cluster])
            far[cluster], far_row[cluster] = _farthest(members[here], squared[here], row)
            if cluster > 0 or length[cluster] == 0:
                limits[cluster] = 4 * MARGIN * far[cluster]
    best, best_row = -1.0, 0
    for cluster in range(used):
        if far[cluster] > best or (far[cluster] == best and far_row[cluster] < best_row):
            best, best_row = far[cluster], far_row[cluster]
    return moved, best, best_row


@numba.njit(cache=True)
def _close_gaps(state: State, t: int, used: int) -> int:
    """Move one thread's clusters together; where they end."""
    end = 0
    for cluster in range(used):
        begin, state.start[t, cluster] = state.start[t, cluster], end
        for i in range(begin, begin + state.length[t, cluster]):
            state.members[t, end], state.squared[t, end] = state.members[t, i], state.squared[t, i]
            end += 1
    return end


@numba.njit(cache=True)
def _sort(state: State, used: np.ndarray, end: np.ndarray, near: np.ndarray, row: np.ndarray) -> None:
    """Bring `near` and `row` into the order of the clusters; `members` follow."""
    source, place = np.empty(len(row), np.int32), 0
    for t in range(len(used)):
        end[t] = _close_gaps(state, t, used[t])
        for i in range(end[t]):
            source[place], state.members[t, i] = state.members[t, i], place
            place += 1
    row[:] = row[source]
    near[:] = near[source]


@numba.njit(cache=True, parallel=ONLY_PRANGE)
def _choose(points: np.ndarray, count: int, first: int, unit: float, near: np.ndarray, state: State) -> np.ndarray:
    """The loop of `k_center`; `near` is room for all rows in fixed point, and `unit` the unit there."""
    threads, room = state.members.shape
    row, centre = np.arange(len(points)).astype(np.int32), np.empty((1, near.shape[1]), np.int16)
    _pack(points, unit, near)
    used, end, moved = np.ones(threads, np.int64), state.length[:, 0].copy(), np.zeros(threads, np.int64)
    best, best_row = np.zeros(threads), np.zeros(threads, np.int64)
    for t in range(threads):
        state.far[t, 0], state.far_row[t, 0] = _farthest(state.members[t, : end[t]], state.squared[t, : end[t]], row)
    chosen, point = np.empty(count, np.int64), first
    for new in range(count):
        chosen[new] = point
        target = points[point]
        _pack(points[point : point + 1], unit, centre)
        close = centre[0].astype(np.float32)
        for t in numba.prange(threads):
            moved[t], best[t], best_row[t] = _part(state, t, used[t], near, close, unit, points, row, target)
        t, total = new % threads, moved.sum()
        if end[t] + total > room:
            end[t] = _close_gaps(state, t, used[t])
        begin, cluster = end[t], used[t]
        for other in range(threads):
            stop = end[t] + moved[other]
            state.members[t, end[t] : stop] = state.moved[other, : moved[other]]
            state.squared[t, end[t] : stop] = state.moved_squared[other, : moved[other]]
            end[t] = stop
        used[t] += 1
        far, point = _farthest(state.members[t, begin : end[t]], state.squared[t, begin : end[t]], row)
        state.start[t, cluster], state.length[t, cluster] = begin, total
        state.far[t, cluster], state.far_row[t, cluster] = far, point
        state.limits[t, cluster] = 4 * MARGIN * far
        state.heads[t, :, cluster], state.centres[t, cluster] = target[:HEAD], centre[0]
        for other in range(threads):
            if best[other] > far or (best[other] == far and best_row[other] < point):
                far, point = best[other], best_row[other]
        if far <= 0:
            return chosen[: new + 1]
        if new >= SORT_FROM and new & (new - 1) == 0:
            _sort(state, used, end, near, row)
    return chosen
