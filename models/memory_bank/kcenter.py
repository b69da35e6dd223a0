"""Exact greedy k-center (farthest-first traversal) by lazy evaluation and matrix products.

Lazy evaluation (Minoux 1978). The distance of a row to its nearest centre only falls while centres are added. So a
distance that was computed before the latest centres is an upper bound, and it must be computed again only when it is
the largest bound of all.

Heap and front. All rows are in a heap, ordered by their bounds. The rows with the largest bounds are taken out
together: the front. One matrix product, at the processor's full rate, compares them with all centres that are new to
them. Then centres are chosen among the rows of the front, which stays in the cache, until the heap has a larger bound.
The front goes back into the heap, and the next one is taken out. No pair of row and centre is compared twice, so the
worst case is brute force as one large matrix product, whatever the data. The size of the front is adapted until
choosing in it takes about as long as taking it out, comparing it and putting it back.

First centres. They are near to many rows, so most bounds would have to be computed again. As long as each new centre is
the nearest one of many rows, all rows are compared with it at once.

Fewer dimensions. The product takes the first dimensions (the head) only. They hold most of a distance when they vary
most. With the lengths |a'| and |b'| of the remaining dimensions, |a - b|^2 >= |head of (a - b)|^2 + (|a'| - |b'|)^2. So
one product of the heads, with these lengths appended, gives a lower bound of each distance. How many dimensions are
used is decided while it runs, by the share of pairs that the lower bound does not decide.

Several processes hold some of the rows each, and choose what one process would choose. Each takes a front out of its
own rows and brings it up to date. Then all processes receive all fronts and the largest bound left in any heap. Each
chooses the same centres in these fronts by itself, so one exchange serves many centres. Only while all rows are
compared with each new centre, the farthest row is exchanged for every centre.

The same choice everywhere. Distances that decide are summed in double precision in one fixed order, and the margins of
products and bounds are larger than their rounding errors. So the choice is the same on every machine, with any number
of threads.
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

FRONT, FRONT_MAX = 256, 8192  # smallest and largest number of rows in the front
CACHE = 1 << 16  # most values in the front's heads, which are read for every centre; FRONT rows are always allowed
HEAP, SCAN = 100_000, 60  # time to take a row out of the heap and put it back, and to look at it for one centre; in the
# unit of CHECK in front.py
WIDTHS = (32, 48, 64)  # lengths of packed rows for products over the first dimensions; one over all dimensions is added
MANY = 50  # all rows are compared with a new centre while the last one was the nearest of more than 1 row in MANY
EXCHANGE = 25_000  # time to send a row to the other processes, in the unit of CHECK
BLAS = ThreadpoolController()  # made once: finding the libraries can take longer than a whole choice


def k_center(
    points: np.ndarray, count: int, first: int, squared: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    """Choose `first`, then again and again the row farthest from all chosen; ties go to the lowest row number.

    Args:
        points: float32 [rows, dimensions], dimensions a multiple of 4; faster when the first dimensions vary most.
        count: rows wanted.
        first: number of the row that is chosen first.
        squared: [rows], squared distances to centres that were chosen before, if there are any.
        threads: changes the time only, not the result; default one per core.

    Returns:
        int64 [chosen] row numbers in the order of choice; fewer than `count` if every other row is a copy of a chosen
        one.
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
    """Yield the row numbers that `k_center` returns, each as soon as it is chosen.

    Every process of `group` passes its own part of the rows and of `squared`; the parts follow each other in the order
    of ranks. `first` and the yielded numbers count the rows of all processes.
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
        **_empty_front(dimensions),
        products=np.empty((threads, ROWS * COLUMNS), np.float32),
        found=np.empty((threads, COLUMNS + 1), np.int32),
        farthest=np.zeros(threads, np.int64),
        checked=np.zeros(threads, np.int64),
        widths=widths,
        failed=np.zeros(len(widths), np.int64),
    )
    number = max(len(widths) - 2, 0)
    done = _choose_by_sweeps(points, first, state, widths[number], Shard(group, start, rows))
    yield from state.chosen[:done].tolist()
    if done < count:
        reach = max(float(longest[0]) for longest in group.gather(np.array([make_heap(points, state, done)])))
        with BLAS.limit(limits=1, user_api="blas"):  # each of numba's threads calls BLAS by itself
            yield from _choose_by_fronts(points, state, reach, done, number, Shard(group, start, rows))


def _empty_front(dimensions: int) -> dict[str, np.ndarray]:
    """The arrays of a front. They have room for more than FRONT_MAX rows, as each process's share is rounded up."""
    return {
        "front": np.empty(2 * FRONT_MAX, np.int32),
        "front_met": np.empty(2 * FRONT_MAX, np.int32),
        "front_squared": np.empty(2 * FRONT_MAX),
        "front_points": np.empty((2 * FRONT_MAX, dimensions), np.float32),
        "front_packed": np.empty(2 * FRONT_MAX * (dimensions + 2), np.float32),
        "front_half": np.empty(2 * FRONT_MAX),
        "front_products": np.empty(2 * FRONT_MAX, np.float32),
        "front_found": np.empty(2 * FRONT_MAX + 1, np.int32),
        "front_enough": np.empty(2 * FRONT_MAX, np.float32),
        "front_top": np.empty(1),
        "front_top_row": np.empty(1, np.int64),
    }


class Shard(NamedTuple):
    """Which part of all rows this process has."""

    group: Group
    start: int
    """Number of this process's first row among all rows."""
    rows: int
    """Number of rows of all processes together."""


def _choose_by_sweeps(points: np.ndarray, first: int, s: State, width: int, shard: Shard) -> int:
    """Choose the first centres and compare all rows with each; return how many were chosen.

    Goes on as long as the latest centre is the nearest one of many rows.
    """
    kind = np.dtype([("squared", "f8"), ("row", "i8"), ("changed", "i8"), ("point", "f4", points.shape[1])])
    own = np.zeros(1, kind)
    own["squared"] = -1
    if 0 <= first - shard.start < len(points):
        own["squared"], own["row"], own["point"] = 0, first, points[first - shard.start]
    done = 0
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
            row = s.farthest[s.bound[s.farthest].argmax()]  # the first one if several are equally far
            own["squared"], own["row"], own["point"] = s.bound[row], row + shard.start, points[row]
            own["changed"] = s.checked.sum()


class Head(NamedTuple):
    """Numbers that a process sends about its heap and its front: `bound` as float64, the others as int64."""

    bound: float
    """The largest bound left in the heap, -1 if the heap is empty."""
    row: int
    """Number of that row among the rows of all processes."""
    taken: int
    """Rows in the front."""
    pairs: int
    """Pairs of row and centre that were compared when the front was brought up to date."""
    checked: int
    """How many of these pairs were checked by their full distance."""


HEAD = np.dtype([(name, "f8" if name == "bound" else "i8") for name in Head._fields])


def _exchange(s: State, both: State, head: Head, share: int, shard: Shard) -> np.ndarray:
    """Fill the front of `both` with the fronts of all processes, at most `share` rows of each; return all `Head`s."""
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


def _choose_by_fronts(
    points: np.ndarray, s: State, reach: float, done: int, number: int, shard: Shard
) -> Iterator[int]:
    """Choose the remaining centres, front by front, and yield their row numbers.

    Ends when there are enough centres, or when all other rows are copies of centres.

    Args:
        reach: upper bound of a row's squared length, over all processes.
        done: centres chosen so far.
        number: index in `s.widths` of the width to begin with.
    """
    alone, many = shard.group.size == 1, shard.group.size
    both = s._replace(**({} if alone else _empty_front(points.shape[1])), checked=s.checked.copy())
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
