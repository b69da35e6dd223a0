"""Exact greedy k-center (farthest-first traversal) by lazy evaluation and matrix products.

The distance of a row to the chosen centres only falls. So a distance that has not met the latest centres is an upper
bound, and a row needs to be brought up to date only when its bound is the largest (lazy greedy evaluation, Minoux
1978). All rows wait in a heap by their bounds. The rows with the largest ones are taken out together, the front, and
meet all centres that they have not met as a matrix product, at the processor's full rate. Then centres are chosen
inside the front, which stays in the cache, until a bound in the heap comes first; the front goes back into the heap,
and the next one is taken out. No pair of row and centre is looked at twice, so the worst case is brute force as one
large matrix product, whatever the data. The front grows and shrinks until choosing in it takes about as long as taking
it out, bringing it up to date and putting it back.

The first centres are near to many rows, and most bounds would be asked for: as long as a centre is nearer than all
before it to many rows, all rows meet it at once.

The product is of the first dimensions only, where most of a distance lies when they vary most. With the lengths |a'|
and |b'| of what they leave out, |a - b|^2 >= |head of (a - b)|^2 + (|a'| - |b'|)^2, so one product of the heads with
these lengths appended is a lower bound of all distances. How many dimensions are enough is measured while it runs, by
the share of pairs that the bound does not decide.

Several processes, which hold some of the rows each, choose together as one would. Each takes out and brings up to date
a front of its own rows, then all get all fronts, and the largest bound that is left in a heap. So each chooses the same
rows inside all fronts by itself, as many as one exchange allows, and none asks about a single choice. Only while all
rows meet each centre the farthest row is exchanged every time.

Distances that decide anything are summed in double precision in one fixed order; products and bounds have margins above
their rounding. So the choice is the same on every machine and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

from deploy.pictures.stream import cores

from ..distributed.group import Group
from .distances import pack
from .front import (
    COLUMNS,
    ROWS,
    State,
    better_width,
    bring_up_to_date,
    choose,
    make_heap,
    pack_centres,
    pack_front,
    put_back,
    sweep,
    take_out,
)

FRONT, FRONT_MAX = 256, 8192  # rows that are brought up to date together, at least and at most
CACHE = 1 << 16  # values of the front's heads, which are looked at for every centre, at most
HEAP, SCAN = 100_000, 60  # time of a row's way out of the heap and back, and of looking at it for a centre; see CHECK
WIDTHS = (32, 64)  # of products over the first dimensions; the last one is over all dimensions
MANY = 50  # a centre that is nearest to one row in so many is met by all rows
EXCHANGE = 25_000  # time of a row's way to other processes, in the same units
BLAS = ThreadpoolController()  # finding the libraries takes longer than many a choice


def k_center(
    points: np.ndarray, count: int, first: int, squared: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    """Choose `first`, then again and again the row farthest from all chosen; ties go to the lowest row number.

    Args:
        points: float32 [rows, dimensions], dimensions a multiple of 4; faster when the first ones vary most.
        count: rows wanted.
        first: the first one.
        squared: [rows], squared distances to begin with, as if something had been chosen already.
        threads: decides nothing but the time; default one per core.

    Returns:
        int64 [chosen] row numbers in the order of choice; fewer than `count` once every row is a copy of a chosen one.
    """
    return np.fromiter(iterate_centres(points, count, first, squared, threads), np.int64)


def iterate_centres(
    points: np.ndarray,
    count: int,
    first: int,
    squared: np.ndarray | None = None,
    threads: int | None = None,
    group: Group | None = None,
) -> Iterator[int]:
    """Yield the row numbers that `k_center` returns, while they are chosen.

    Every process of `group` has some of the rows, in the order of ranks, and of `squared`; numbers are those in all.
    """
    points, dimensions, group = np.ascontiguousarray(points), points.shape[1], group or Group()
    held = [int(rows[0]) for rows in group.gather(np.array([len(points)]))]
    rows, start = sum(held), sum(held[: group.rank])
    count, threads = min(count, rows), threads or min(numba.get_num_threads(), cores())
    widths = np.array([*(width for width in WIDTHS if width < dimensions), dimensions + 2])
    state = State(
        centres=np.empty((count, dimensions), np.float32),
        packed=np.empty(count * (dimensions + 2), np.float32),
        chosen=np.empty(count, np.int64),
        met=np.empty(len(points), np.int32),
        bound=np.full(len(points), np.inf) if squared is None else squared.astype(np.float64),
        waiting=np.arange(len(points), dtype=np.int32),
        **_front(dimensions),
        products=np.empty((threads, ROWS * COLUMNS), np.float32),
        farthest=np.zeros(threads, np.int64),
        checked=np.zeros(threads, np.int64),
        widths=widths,
        failed=np.zeros(len(widths), np.int64),
    )
    number = max(len(widths) - 2, 0)
    done = _begin(points, first, state, widths[number], Shard(group, start, rows))
    yield from state.chosen[:done].tolist()
    if done < count:
        reach = max(float(longest[0]) for longest in group.gather(np.array([make_heap(points, state, done)])))
        with BLAS.limit(limits=1, user_api="blas"):  # each of numba's threads calls BLAS by itself
            yield from _go_on(points, state, reach, done, number, Shard(group, start, rows))


def _front(dimensions: int) -> dict[str, np.ndarray]:
    """The arrays of a front of FRONT_MAX rows, and a few more: each of several processes may have one to fill up."""
    return {
        "front": np.empty(2 * FRONT_MAX, np.int32),
        "front_met": np.empty(2 * FRONT_MAX, np.int32),
        "front_squared": np.empty(2 * FRONT_MAX),
        "front_points": np.empty((2 * FRONT_MAX, dimensions), np.float32),
        "front_packed": np.empty(2 * FRONT_MAX * (dimensions + 2), np.float32),
        "front_half": np.empty(2 * FRONT_MAX),
        "front_products": np.empty(2 * FRONT_MAX, np.float32),
        "front_enough": np.empty(2 * FRONT_MAX, np.float32),
        "front_top": np.empty(1),
        "front_top_row": np.empty(1, np.int64),
    }


class Shard(NamedTuple):
    """Which of all rows this process has."""

    group: Group
    start: int
    """The number of its first row among all."""
    rows: int
    """How many all processes have together."""


def _begin(points: np.ndarray, first: int, s: State, width: int, shard: Shard) -> int:
    """Choose centres, each of which all rows meet, as long as it is the nearest one of many; return how many."""
    kind = np.dtype([("squared", "f8"), ("row", "i8"), ("changed", "i8"), ("point", "f4", points.shape[1])])
    own = np.zeros(1, kind)
    own["squared"] = -1
    if 0 <= first - shard.start < len(points):
        own["squared"], own["row"], own["point"] = 0, first, points[first - shard.start]
    done, many = 0, True
    while True:
        found = np.concatenate([part.view(kind) for part in shard.group.gather(own.view(np.uint8))])
        best = found[np.lexsort((found["row"], -found["squared"]))[0]]
        many = done == 0 or (found["changed"].sum() * MANY > shard.rows and best["squared"] > 0)
        if not many or done == len(s.chosen):
            return done
        s.chosen[done], s.centres[done] = best["row"], best["point"]
        pack(s.centres[done], True, s.packed[done * width : (done + 1) * width])
        sweep(points, s, done)
        done += 1
        if len(points):
            row = s.farthest[s.bound[s.farthest].argmax()]  # of equal ones the first
            own["squared"], own["row"], own["point"] = s.bound[row], row + shard.start, points[row]
            own["changed"] = s.checked.sum()


class Head(NamedTuple):
    """What a process tells about its heap and front; each int64 but for the first, of float64."""

    bound: float
    """The largest that is left in the heap, -1 where none is."""
    row: int
    """Its number among all rows."""
    taken: int
    """Rows in the front."""
    pairs: int
    """Of a row and a centre, that taking out the front brought together."""
    checked: int
    """Of these, how many were looked at one by one."""


HEAD = np.dtype([(name, "f8" if name == "bound" else "i8") for name in Head._fields])


def _exchange(s: State, both: State, head: Head, share: int, shard: Shard) -> np.ndarray:
    """Fill the front of `both` with the fronts of all processes, `share` rows of each at most; return their heads."""
    kind = np.dtype([("squared", "f8"), ("row", "i8"), ("point", "f4", s.centres.shape[1])])
    own, taken = np.zeros(share, kind), head.taken
    own["squared"][:taken], own["point"][:taken] = s.front_squared[:taken], s.front_points[:taken]
    own["row"][:taken] = s.front[:taken] + shard.start
    message = np.concatenate([np.array([head], HEAD).view(np.uint8), own.view(np.uint8)])
    messages, filled = shard.group.gather(message), 0
    heads = np.concatenate([part[: HEAD.itemsize].view(HEAD) for part in messages])
    for part, count in zip(messages, heads["taken"]):
        rows, here = part[HEAD.itemsize :].view(kind)[:count], slice(filled, filled + count)
        both.front[here], both.front_squared[here] = rows["row"], rows["squared"]
        both.front_points[here] = rows["point"]
        filled += count
    return heads


def _go_on(points: np.ndarray, s: State, reach: float, done: int, number: int, shard: Shard) -> Iterator[int]:
    """Choose and yield until there are enough centres, or nothing but copies of them is left."""
    alone, many = shard.group.size == 1, shard.group.size
    both = s._replace(**({} if alone else _front(points.shape[1])), checked=s.checked.copy())
    front, size, top = FRONT, len(points), 1.0
    while done < len(s.chosen) and top > 0:
        width = s.widths[number]
        share = -(-min(front, max(FRONT, CACHE // width)) // many)
        taken = min(size, share)
        s.checked[:] = both.checked[:] = 0
        size -= taken
        pairs = take_out(s, taken, size + taken, done)
        bring_up_to_date(points, s, taken, done, width, reach)
        left = (s.bound[0], s.waiting[0] + shard.start) if size else (-1.0, 0)
        head = Head(*left, taken, pairs, int(s.checked.sum()))
        heads = np.array([head], HEAD) if alone else _exchange(s, both, head, share, shard)
        first, total = heads[np.lexsort((heads["row"], -heads["bound"]))[0]], int(heads["taken"].sum())
        if not alone:
            pack_front(both, total, width)
        both.front_top[0], both.front_top_row[0] = first["bound"], first["row"]
        earlier, done = done, choose(both, total, done, width, reach)
        yield from s.chosen[earlier:done].tolist()
        own = int(heads["taken"][: shard.group.rank].sum())
        put_back(s, both.front_squared[own : own + taken].copy(), size, done)
        size += taken
        top = max(first["bound"], both.front_squared[:total].max())
        pairs = int(heads["pairs"].sum())
        ideal = ((HEAP + pairs / total * width) / many + (0 if alone else EXCHANGE)) / (4 * width + SCAN)
        if done - earlier > 2 * ideal:
            front = max(FRONT, share * many // 2)
        elif 2 * (done - earlier) < ideal:
            front = min(FRONT_MAX, share * many * 2)
        pairs += (done - earlier) * total
        if pairs >= 1 << 16:
            better = better_width(s, number, (heads["checked"].sum() + both.checked.sum()) / pairs, done)
            if better != number:
                number = better
                pack_centres(s, done, s.widths[number])
