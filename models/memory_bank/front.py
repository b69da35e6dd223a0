"""What the exact greedy choice of a coreset works on, and its compiled steps; `kcenter` takes them together."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's np.dot takes its BLAS, loaded before threads are limited

from .distances import MARGIN, any_reaches, copy, exact, largest, least_product, pack, roughly
from .heap import before, rise, sink
from .native import native

ROWS, COLUMNS = 128, 512  # of one matrix product, which stays in the cache
CHECK = 600  # time of looking at one pair's whole distance, in units of one dimension of one pair in a product; a
# dimension of a product with one centre takes about four
CHUNK = 32  # products looked at together, by SIMD
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
    front_top: np.ndarray
    """float64 [1]: the largest bound that is left in a heap, -1 where none is."""
    front_top_row: np.ndarray
    """int64 [1]: the number of its row."""
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


@native()
def _sweep_part(points: np.ndarray, s: State, thread: int, centre: int) -> None:
    """Bring one thread's share of all rows up to date with a centre."""
    share = (len(points) + len(s.products) - 1) // len(s.products)
    farthest, squared, changed = 0, -1.0, 0
    for row in range(thread * share, min(thread * share + share, len(points))):
        if roughly(points[row], s.centres[centre]) <= MARGIN * s.bound[row]:
            distance = exact(points[row], s.centres[centre])
            if distance < s.bound[row]:
                s.bound[row] = distance
                changed += 1
        if s.bound[row] > squared:
            farthest, squared = row, s.bound[row]
    s.farthest[thread], s.checked[thread] = farthest, changed


@native(parallel=ONLY_PRANGE)
def sweep(points: np.ndarray, s: State, centre: int) -> None:
    """Bring all rows up to date with a centre."""
    for thread in numba.prange(len(s.products)):
        _sweep_part(points, s, thread, centre)


@native()
def make_heap(points: np.ndarray, s: State, done: int) -> float:
    """Make the heap of all rows, which have met all centres; return the largest squared length of a row."""
    longest = np.float32(0)
    for row in range(len(points)):
        s.met[row] = done
        length = np.float32(0)
        for value in points[row]:
            length += value * value
        longest = max(longest, length)
    for place in range(len(points) // 2 - 1, -1, -1):
        sink(s.bound, s.waiting, len(points), place)
    return MARGIN * longest


@native()
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


@native()
def _load_and_meet(points: np.ndarray, s: State, thread: int, taken: int, done: int, width: int, reach: float) -> None:
    """Do one thread's share of `bring_up_to_date`; a function, as prange loses what is written to a tuple's arrays."""
    threads, parts = len(s.products), (taken + ROWS - 1) // ROWS
    for part in range(thread, parts, threads):  # neighbours in `met` have about as much to do
        begin, end = part * ROWS, min(part * ROWS + ROWS, taken)
        for i in range(begin, end):
            row = s.front[i]
            copy(points[row], s.front_points[i])
            s.front_half[i] = pack(points[row], False, s.front_packed[i * width : (i + 1) * width]) / 2
        _meet(s, thread, begin, end, done, width, reach)


@native(parallel=ONLY_PRANGE)
def bring_up_to_date(points: np.ndarray, s: State, taken: int, done: int, width: int, reach: float) -> None:
    """Load the front's `taken` rows and let them meet all centres that they have not met."""
    for thread in numba.prange(len(s.products)):
        _load_and_meet(points, s, thread, taken, done, width, reach)


@native()
def choose(s: State, taken: int, done: int, width: int, reach: float) -> int:
    """Choose in the front until a row that is left in a heap comes first; return how many are chosen now."""
    count = len(s.chosen)
    query = s.front_packed[: taken * width].reshape(taken, width)
    for i in range(taken):
        s.front_enough[i] = least_product(s.front_half[i], s.front_squared[i], width, reach)
    while done < count:
        squared, row, at = -1.0, 0, 0
        for i in range(taken):
            if before(s.front_squared[i], s.front[i], squared, row):
                squared, row, at = s.front_squared[i], s.front[i], i
        if squared <= 0 or before(s.front_top[0], s.front_top_row[0], squared, row):
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


@native()
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


@native()
def better_width(s: State, number: int, share: float, done: int) -> int:
    """Return the width to go on with; `share` of the pairs had to be checked with the one that is in use."""
    if number + 1 < len(s.widths) and s.widths[number] + CHECK * share > s.widths[number + 1]:
        s.failed[number] = done
        return number + 1
    # a narrower product leaves some eight times as many undecided
    narrower = s.widths[number - 1] + 8 * CHECK * share < 0.9 * s.widths[number]
    return number - 1 if narrower and number > 0 and done >= 2 * s.failed[number - 1] else number


@native()
def take_out(s: State, taken: int, size: int, done: int) -> int:
    """Take the rows with the largest bounds out of the heap into the front; return how many pairs have not met."""
    for i in range(taken):
        s.front[i], s.front_squared[i] = s.waiting[0], s.bound[0]
        size -= 1
        s.bound[0], s.waiting[0] = s.bound[size], s.waiting[size]
        sink(s.bound, s.waiting, size, 0)
    _sort_by_met(s, taken)
    pairs = 0
    for i in range(taken):
        pairs += done - s.front_met[i]
    return pairs


@native()
def put_back(s: State, squared: np.ndarray, size: int, done: int) -> None:
    """Put the front's rows, whose squared distances are given, back into the heap, which holds `size` others."""
    for i in range(len(squared)):
        row = s.front[i]
        s.met[row] = done
        rise(s.bound, s.waiting, size + i, squared[i], row)


@native()
def pack_front(s: State, taken: int, width: int) -> None:
    """Make the products' form of the front's points."""
    for i in range(taken):
        s.front_half[i] = pack(s.front_points[i], False, s.front_packed[i * width : (i + 1) * width]) / 2


@native()
def pack_centres(s: State, done: int, width: int) -> None:
    """Make the products' form of all centres."""
    for i in range(done):
        pack(s.centres[i], True, s.packed[i * width : (i + 1) * width])
