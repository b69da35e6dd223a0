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

Distances that decide anything are summed in double precision in one fixed order; products and bounds have margins above
their rounding. So the choice is the same on every machine and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's np.dot takes its BLAS, loaded before threads are limited
from threadpoolctl import ThreadpoolController

from .distances import MARGIN, any_reaches, copy, exact, largest, least_product, pack, roughly
from .heap import before, rise, sink

FRONT, FRONT_MAX = 256, 8192  # rows that are brought up to date together, at least and at most
CACHE = 1 << 16  # values of the front's heads, which are looked at for every centre, at most
HEAP, SCAN = 100_000, 60  # time of a row's way out of the heap and back, and of looking at it for a centre; see CHECK
ROWS, COLUMNS = 128, 512  # of one matrix product, which stays in the cache
WIDTHS = (32, 64)  # of products over the first dimensions; the last one is over all dimensions
CHECK = 600  # time of looking at one pair's whole distance, in units of one dimension of one pair in a product; a
# dimension of a product with one centre takes about four
MANY = 50  # a centre that is nearest to one row in so many is met by all rows
CHUNK = 32  # products looked at together, by SIMD
SLICE = 64  # centres after which progress is reported, at least
BLAS = ThreadpoolController()  # finding the libraries takes longer than many a choice
ONLY_PRANGE = {
    "prange": True,
    **dict.fromkeys(("comprehension", "numpy", "reduction", "inplace_binop", "setitem", "stencil", "fusion"), False),
}


class State(NamedTuple):
    """What the choice works on. A row is in the heap or in the front."""

    centres: np.ndarray
    """float32 [count, dimensions]: the chosen rows."""
    packed: np.ndarray
    """float32 [count * (dimensions + 2)]: the same for products, see `pack`, `width` values each."""
    chosen: np.ndarray
    """int64 [count]: their row numbers."""
    met: np.ndarray
    """int32 [rows]: how many of the centres, in order of choice."""
    bound: np.ndarray
    """float64 [rows]: of the heap's rows, the squared distance to the nearest of the centres that each has met."""
    waiting: np.ndarray
    """int32 [rows]: the heap's rows, largest `bound` first, then lowest row number."""
    front: np.ndarray
    """int32 [front]: the front's rows."""
    front_met: np.ndarray
    """int32 [front]."""
    front_squared: np.ndarray
    """float64 [front]."""
    front_points: np.ndarray
    """float32 [front, dimensions]."""
    front_packed: np.ndarray
    """float32 [front * (dimensions + 2)]."""
    front_half: np.ndarray
    """float64 [front]: half the squared lengths of `front_points`."""
    front_products: np.ndarray
    """float32 [front]: with the latest centre."""
    front_enough: np.ndarray
    """float32 [front]: see `least_product`."""
    products: np.ndarray
    """float32 [threads, ROWS * COLUMNS]: scratch."""
    farthest: np.ndarray
    """int64 [threads]: of each thread's rows, the farthest one."""
    checked: np.ndarray
    """int64 [threads]: pairs whose whole distance was looked at; in a sweep, rows whose distance fell."""
    widths: np.ndarray
    """int64 [widths]: how many values a packed row can have, ascending; the last one holds all dimensions."""
    failed: np.ndarray
    """int64 [widths]: how many centres there were when this width was found too narrow."""


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
    points: np.ndarray, count: int, first: int, squared: np.ndarray | None = None, threads: int | None = None
) -> Iterator[int]:
    """Yield the row numbers that `k_center` returns, while they are chosen."""
    points, rows, dimensions = np.ascontiguousarray(points), len(points), points.shape[1]
    count, threads = min(count, rows), threads or numba.get_num_threads()
    widths = np.array([*(width for width in WIDTHS if width < dimensions), dimensions + 2])
    state = State(
        centres=np.empty((count, dimensions), np.float32),
        packed=np.empty(count * (dimensions + 2), np.float32),
        chosen=np.empty(count, np.int64),
        met=np.empty(rows, np.int32),
        bound=np.full(rows, np.inf) if squared is None else squared.astype(np.float64),
        waiting=np.arange(rows, dtype=np.int32),
        front=np.empty(FRONT_MAX, np.int32),
        front_met=np.empty(FRONT_MAX, np.int32),
        front_squared=np.empty(FRONT_MAX),
        front_points=np.empty((FRONT_MAX, dimensions), np.float32),
        front_packed=np.empty(FRONT_MAX * (dimensions + 2), np.float32),
        front_half=np.empty(FRONT_MAX),
        front_products=np.empty(FRONT_MAX, np.float32),
        front_enough=np.empty(FRONT_MAX, np.float32),
        products=np.empty((threads, ROWS * COLUMNS), np.float32),
        farthest=np.zeros(threads, np.int64),
        checked=np.zeros(threads, np.int64),
        widths=widths,
        failed=np.zeros(len(widths), np.int64),
    )
    number = max(len(widths) - 2, 0)
    size, front, step = rows, FRONT, max(SLICE, count // 200)
    done, reach = _begin(points, first, state, widths[number])
    yield from state.chosen[:done].tolist()
    if done == count:
        return
    with BLAS.limit(limits=1, user_api="blas"):  # each of numba's threads calls BLAS by itself
        while done < count:
            until = min(done + step, count)
            now, size, number, front = _advance(points, state, reach, done, until, size, number, front)
            yield from state.chosen[done:now].tolist()
            if now < until:
                return
            done = now


@numba.njit(cache=True)
def _sweep_part(points: np.ndarray, s: State, thread: int, centre: int) -> None:
    """Bring one thread's share of all rows up to date with the row `centre`."""
    share = (len(points) + len(s.products) - 1) // len(s.products)
    farthest, squared, changed = 0, -1.0, 0
    for row in range(thread * share, min(thread * share + share, len(points))):
        if roughly(points[row], points[centre]) <= MARGIN * s.bound[row]:
            distance = exact(points[row], points[centre])
            if distance < s.bound[row]:
                s.bound[row] = distance
                changed += 1
        if s.bound[row] > squared:
            farthest, squared = row, s.bound[row]
    s.farthest[thread], s.checked[thread] = farthest, changed


@numba.njit(cache=True, parallel=ONLY_PRANGE)
def _sweep(points: np.ndarray, s: State, centre: int) -> None:
    """Bring all rows up to date with the row `centre`."""
    for thread in numba.prange(len(s.products)):
        _sweep_part(points, s, thread, centre)


@numba.njit(cache=True)
def _begin(points: np.ndarray, first: int, s: State, width: int):  # noqa: ANN202
    """Choose centres, each of which all rows meet, as long as it is the nearest one of many; then make the heap.

    Return how many are chosen, and the largest squared length of a row.
    """
    row, done, many = first, 0, True
    while many and done < len(s.chosen):
        s.chosen[done] = row
        copy(points[row], s.centres[done])
        pack(points[row], True, s.packed[done * width : (done + 1) * width])
        done += 1
        _sweep(points, s, row)
        row = s.farthest[0]
        for other in s.farthest:
            if s.bound[other] > s.bound[row]:
                row = other
        many = s.checked.sum() * MANY > len(points) and s.bound[row] > 0
    if done == len(s.chosen):
        return done, 0.0
    longest = np.float32(0)
    for row in range(len(points)):
        s.met[row] = done
        length = np.float32(0)
        for value in points[row]:
            length += value * value
        longest = max(longest, length)
    for place in range(len(points) // 2 - 1, -1, -1):
        sink(s.bound, s.waiting, len(points), place)
    return done, MARGIN * longest


@numba.njit(cache=True)
def _meet(s: State, thread: int, begin: int, end: int, done: int, width: int, reach: float) -> None:
    """Bring the front's rows `begin` to `end`, sorted by `met`, up to date with all centres."""
    query, centres = s.front_packed[: end * width].reshape(end, width), s.packed[: done * width].reshape(done, width)
    for start in range(s.front_met[begin], done, COLUMNS):
        stop, last = min(start + COLUMNS, done), begin
        while last < end and s.front_met[last] < stop:
            last += 1
        products = s.products[thread, : (last - begin) * (stop - start)].reshape(last - begin, stop - start)
        np.dot(query[begin:last], centres[start:stop].T, products)
        for i in range(begin, last):
            row, squared = s.front_points[i], s.front_squared[i]
            enough = least_product(s.front_half[i], squared, width, reach)
            for chunk in range(0, stop - start, CHUNK):
                some = products[i - begin, chunk : chunk + CHUNK]
                if largest(some) < enough:
                    continue
                for j in range(len(some)):
                    if some[j] >= enough:
                        s.checked[thread] += 1
                        centre = s.centres[start + chunk + j]
                        if roughly(row, centre) <= MARGIN * squared:
                            distance = exact(row, centre)
                            if distance < squared:
                                squared = distance
                                enough = least_product(s.front_half[i], squared, width, reach)
            s.front_squared[i] = squared


@numba.njit(cache=True)
def _load_and_meet(points: np.ndarray, s: State, thread: int, taken: int, done: int, width: int, reach: float) -> None:
    """Do one thread's share of `_bring_up_to_date`; a function, as prange loses what is written to a tuple's arrays."""
    threads, parts = len(s.products), (taken + ROWS - 1) // ROWS
    for part in range(thread, parts, threads):  # neighbours in `met` have about as much to do
        begin, end = part * ROWS, min(part * ROWS + ROWS, taken)
        for i in range(begin, end):
            row = s.front[i]
            copy(points[row], s.front_points[i])
            s.front_half[i] = pack(points[row], False, s.front_packed[i * width : (i + 1) * width]) / 2
        _meet(s, thread, begin, end, done, width, reach)


@numba.njit(cache=True, parallel=ONLY_PRANGE)
def _bring_up_to_date(points: np.ndarray, s: State, taken: int, done: int, width: int, reach: float) -> None:
    """Load the front's `taken` rows and let them meet all centres that they have not met."""
    for thread in numba.prange(len(s.products)):
        _load_and_meet(points, s, thread, taken, done, width, reach)


@numba.njit(cache=True)
def _choose(s: State, taken: int, size: int, done: int, width: int, reach: float) -> int:
    """Choose in the front until a row of the heap comes first; return how many are chosen now."""
    count = len(s.chosen)
    query = s.front_packed[: taken * width].reshape(taken, width)
    for i in range(taken):
        s.front_enough[i] = least_product(s.front_half[i], s.front_squared[i], width, reach)
    while done < count:
        squared, row, at = -1.0, 0, 0
        for i in range(taken):
            if before(s.front_squared[i], s.front[i], squared, row):
                squared, row, at = s.front_squared[i], s.front[i], i
        if squared <= 0 or (size > 0 and before(s.bound[0], s.waiting[0], squared, row)):
            break
        centre = s.centres[done]
        copy(s.front_points[at], centre)
        packed = s.packed[done * width : (done + 1) * width]
        pack(centre, True, packed)
        s.chosen[done] = row
        done += 1
        np.dot(query, packed, s.front_products[:taken])
        for start in range(0, taken, CHUNK):
            stop = min(start + CHUNK, taken)
            if any_reaches(s.front_products[start:stop], s.front_enough[start:stop]):
                for i in range(start, stop):
                    if s.front_products[i] >= s.front_enough[i]:
                        s.checked[0] += 1
                        if roughly(s.front_points[i], centre) <= MARGIN * s.front_squared[i]:
                            s.front_squared[i] = min(s.front_squared[i], exact(s.front_points[i], centre))
                            s.front_enough[i] = least_product(s.front_half[i], s.front_squared[i], width, reach)
    return done


@numba.njit(cache=True)
def _sort_by_met(s: State, taken: int) -> None:
    """Sort the front: those first that have met the fewest centres (Shell's sort)."""
    for i in range(taken):
        s.front_met[i] = s.met[s.front[i]]
    gap = taken // 2
    while gap > 0:
        for i in range(gap, taken):
            met, row, squared, at = s.front_met[i], s.front[i], s.front_squared[i], i
            while at >= gap and s.front_met[at - gap] > met:
                s.front_met[at], s.front[at] = s.front_met[at - gap], s.front[at - gap]
                s.front_squared[at] = s.front_squared[at - gap]
                at -= gap
            s.front_met[at], s.front[at], s.front_squared[at] = met, row, squared
        gap //= 2


@numba.njit(cache=True)
def _better_width(s: State, number: int, share: float, done: int) -> int:
    """Return the width to go on with; `share` of the pairs had to be checked with the one that is in use."""
    if number + 1 < len(s.widths) and s.widths[number] + CHECK * share > s.widths[number + 1]:
        s.failed[number] = done
        return number + 1
    # a narrower product leaves some eight times as many undecided
    narrower = s.widths[number - 1] + 8 * CHECK * share < 0.9 * s.widths[number]
    return number - 1 if narrower and number > 0 and done >= 2 * s.failed[number - 1] else number


@numba.njit(cache=True)
def _advance(  # noqa: ANN202
    points: np.ndarray, s: State, reach: float, done: int, until: int, size: int, number: int, front: int
):
    """Choose on until there are `until` centres, or nothing but copies of them is left.

    Return how many are chosen, the heap's size, the number of the width, and how many rows the next front has. No row
    stays in the front.
    """
    while done < until and s.bound[0] > 0:
        width = s.widths[number]
        taken = min(size, front, max(FRONT, CACHE // width))
        for i in range(taken):
            s.front[i], s.front_squared[i] = s.waiting[0], s.bound[0]
            size -= 1
            s.bound[0], s.waiting[0] = s.bound[size], s.waiting[size]
            sink(s.bound, s.waiting, size, 0)
        _sort_by_met(s, taken)
        pairs = 0
        for i in range(taken):
            pairs += done - s.front_met[i]
        unmet = pairs / taken
        s.checked[:] = 0
        _bring_up_to_date(points, s, taken, done, width, reach)
        earlier = done
        done = _choose(s, taken, size, done, width, reach)
        pairs += (done - earlier) * taken
        ideal = (HEAP + unmet * width) / (4 * width + SCAN)
        if done - earlier > 2 * ideal:
            front = max(FRONT, taken // 2)
        elif 2 * (done - earlier) < ideal:
            front = min(FRONT_MAX, taken * 2)
        for i in range(taken):
            row = s.front[i]
            s.met[row] = done
            rise(s.bound, s.waiting, size, s.front_squared[i], row)
            size += 1
        if pairs >= 1 << 16:
            better = _better_width(s, number, s.checked.sum() / pairs, done)
            if better != number:
                number, width = better, s.widths[better]
                for i in range(done):
                    pack(s.centres[i], True, s.packed[i * width : (i + 1) * width])
    return done, size, number, front
