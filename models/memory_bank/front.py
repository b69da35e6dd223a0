"""The data and the compiled steps of exact greedy k-center; `kcenter.py` calls the steps and explains the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's np.dot takes its BLAS, loaded before threads are limited

from .distances import MARGIN, copy, exact, least_product, length, pack, reaching, roughly
from .heap import before, rise, sink
from .native import native

ROWS, COLUMNS = 128, 512  # size of one matrix product's result, chosen so that it stays in the cache
CHECK = 1500  # time to check one pair of row and centre by its full distance. The unit is the time that one dimension
# of one pair takes in a matrix-matrix product; in a product with a single centre a dimension takes about four units
ONLY_PRANGE = {
    "prange": True,
    **dict.fromkeys(("comprehension", "numpy", "reduction", "inplace_binop", "setitem", "stencil", "fusion"), False),
}


class State(NamedTuple):
    """All arrays that the steps read and write.

    Every row is either in the heap or in the front. The heap holds rows with an upper bound of their distance to the
    centres. The front holds rows whose distance is up to date, and centres are chosen among them.
    """

    centres: np.ndarray
    """float32 [count, dimensions]: the chosen rows."""
    packed: np.ndarray
    """float32 [count * (dimensions + 2)]: the centres as `pack` writes them for products, `width` values per centre."""
    chosen: np.ndarray
    """int64 [count]: row numbers of the centres, in the order of choice."""
    met: np.ndarray
    """int32 [rows]: number of centres, the first ones chosen, that a row has been compared with."""
    bound: np.ndarray
    """float64 [rows]: squared distance to the nearest centre that a row has been compared with. In the order of
    `waiting` once there is a heap, by row number before."""
    waiting: np.ndarray
    """int32 [rows]: row numbers in the heap; at its top the largest `bound`, among equal ones the lowest row number."""
    front: np.ndarray
    """int32 [front]: row numbers in the front."""
    front_met: np.ndarray
    """int32 [front]: `met` of these rows."""
    front_squared: np.ndarray
    """float64 [front]: their squared distance to the nearest centre."""
    front_points: np.ndarray
    """float32 [front, dimensions]: copies of these rows."""
    front_packed: np.ndarray
    """float32 [front * (dimensions + 2)]: these rows as `pack` writes them for products."""
    front_half: np.ndarray
    """float64 [front]: half their squared lengths."""
    front_products: np.ndarray
    """float32 [front]: their packed products with the latest centre, less `front_enough`."""
    front_found: np.ndarray
    """int32 [front]: which of them need a check."""
    front_enough: np.ndarray
    """float32 [front]: products below this need no check, see `least_product`."""
    front_top: np.ndarray
    """float64 [1]: the largest bound in the heap (of all processes' heaps), -1 if the heap is empty."""
    front_top_row: np.ndarray
    """int64 [1]: the row number that belongs to `front_top`."""
    products: np.ndarray
    """float32 [threads, ROWS * COLUMNS]: scratch memory for matrix products."""
    found: np.ndarray
    """int32 [threads, COLUMNS + 1]: which products of one row need a check."""
    farthest: np.ndarray
    """int64 [threads]: the row that is farthest from the centres, among each thread's rows."""
    checked: np.ndarray
    """int64 [threads]: number of pairs that the product did not decide, so that they were checked by distance.
    In `sweep`: number of rows whose distance became smaller."""
    widths: np.ndarray
    """int64 [widths]: lengths that a packed row may have, ascending; the last one covers all dimensions."""
    failed: np.ndarray
    """int64 [widths]: number of centres at the time when this width was last found too narrow."""


@native()
def _sweep_part(points: np.ndarray, s: State, thread: int, centre: int) -> None:
    """Compare one thread's share of all rows with a centre.

    Records the share's farthest row in `farthest`, and in `checked` how many distances became smaller.
    """
    share = (len(points) + len(s.products) - 1) // len(s.products)
    farthest, squared, changed = 0, -1.0, 0
    for row in range(thread * share, min(thread * share + share, len(points))):
        if roughly(points, row, s.centres, centre) <= MARGIN * s.bound[row]:
            distance = exact(points, row, s.centres, centre)
            if distance < s.bound[row]:
                s.bound[row] = distance
                changed += 1
        if s.bound[row] > squared:
            farthest, squared = row, s.bound[row]
    s.farthest[thread], s.checked[thread] = farthest, changed


@native(parallel=ONLY_PRANGE)
def sweep(points: np.ndarray, s: State, centre: int) -> None:
    """Compare all rows with a new centre and lower their bounds."""
    for thread in numba.prange(len(s.products)):
        _sweep_part(points, s, thread, centre)


@native()
def make_heap(points: np.ndarray, s: State, done: int) -> float:
    """Build the heap of all rows, which have all been compared with the `done` centres.

    Returns an upper bound of the largest squared length of a row.
    """
    longest = np.float32(0)
    for row in range(len(points)):
        s.met[row] = done
        longest = max(longest, length(points, row))
    for place in range(len(points) // 2 - 1, -1, -1):
        sink(s.bound, s.waiting, len(points), place)
    return MARGIN * longest


@native()
def _compare(s: State, thread: int, begin: int, end: int, done: int, width: int, reach: float) -> None:
    """Compare the front's rows `begin` to `end` with all centres that are new to them; the rows are sorted by `met`."""
    query, centres = s.front_packed[: end * width].reshape(end, width), s.packed[: done * width].reshape(done, width)
    found = s.found[thread]
    for start in range(s.front_met[begin], done, COLUMNS):
        stop, last = min(start + COLUMNS, done), begin
        while last < end and s.front_met[last] < stop:
            last += 1
        products = s.products[thread, : (last - begin) * (stop - start)].reshape(last - begin, stop - start)
        np.dot(query[begin:last], centres[start:stop].T, products)
        for i in range(begin, last):
            squared = s.front_squared[i]
            enough, own = least_product(s.front_half[i], squared, width, reach), products[i - begin]
            hits = reaching(own, enough, found)
            for k in range(1, hits):  # the largest product first: it is likely to rule out the others
                if own[found[k]] > own[found[0]]:
                    found[0], found[k] = found[k], found[0]
            for j in found[:hits]:
                if own[j] >= enough:
                    s.checked[thread] += 1
                    if roughly(s.front_points, i, s.centres, start + j) <= MARGIN * squared:
                        distance = exact(s.front_points, i, s.centres, start + j)
                        if distance < squared:
                            squared = distance
                            enough = least_product(s.front_half[i], squared, width, reach)
            s.front_squared[i] = squared


@native()
def _load_and_compare(
    points: np.ndarray, s: State, thread: int, taken: int, done: int, width: int, reach: float
) -> None:
    """One thread's share of `bring_up_to_date`.

    It is a function of its own because prange loses what its body writes into the arrays of a tuple.
    """
    threads, parts = len(s.products), (taken + ROWS - 1) // ROWS
    for part in range(thread, parts, threads):  # in turn: rows are sorted by `met`, so nearby parts cost about the same
        begin, end = part * ROWS, min(part * ROWS + ROWS, taken)
        for i in range(begin, end):
            row = s.front[i]
            copy(points[row], s.front_points[i])
            s.front_half[i] = pack(points[row], False, s.front_packed[i * width : (i + 1) * width]) / 2
        _compare(s, thread, begin, end, done, width, reach)


@native(parallel=ONLY_PRANGE)
def bring_up_to_date(points: np.ndarray, s: State, taken: int, done: int, width: int, reach: float) -> None:
    """Copy the front's `taken` rows into it and compare each with all centres that are new to it."""
    for thread in numba.prange(len(s.products)):
        _load_and_compare(points, s, thread, taken, done, width, reach)


@native()
def choose(s: State, taken: int, done: int, width: int, reach: float) -> int:
    """Choose centres among the front's `taken` rows; return how many centres there are then.

    Stops when a row of the heap may be farther than all rows of the front, when there are enough centres, or when all
    rows of the front are copies of centres.
    """
    count = len(s.chosen)
    query, products = s.front_packed[: taken * width].reshape(taken, width), s.front_products[:taken]
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
        np.dot(query, packed, products)
        for i in range(taken):
            products[i] -= s.front_enough[i]
        for i in s.front_found[: reaching(products, 0.0, s.front_found)]:
            s.checked[0] += 1
            if roughly(s.front_points, i, s.centres, done - 1) <= MARGIN * s.front_squared[i]:
                s.front_squared[i] = min(s.front_squared[i], exact(s.front_points, i, s.centres, done - 1))
                s.front_enough[i] = least_product(s.front_half[i], s.front_squared[i], width, reach)
    return done


@native()
def _sort_by_met(s: State, taken: int) -> None:
    """Sort the front's rows by the number of centres that they were compared with, ascending (Shell sort)."""
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
    """Return the index in `s.widths` of the width to use next.

    `number` is the index in use, with which `share` of the pairs had to be checked by their full distance.
    """
    if number + 1 < len(s.widths) and s.widths[number] + CHECK * share > s.widths[number + 1]:
        s.failed[number] = done
        return number + 1
    # a narrower product leaves about three times as many pairs undecided
    narrower = s.widths[number - 1] + 3 * CHECK * share < 0.9 * s.widths[number]
    return number - 1 if narrower and number > 0 and done >= 2 * s.failed[number - 1] else number


@native()
def take_out(s: State, taken: int, size: int, done: int) -> int:
    """Move the `taken` rows with the largest bounds from the heap, which has `size` rows, into the front.

    Returns the number of pairs of these rows and the `done` centres that were not compared yet.
    """
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
    """Put the front's rows, with their squared distances, back into the heap, which has `size` other rows."""
    for i in range(len(squared)):
        row = s.front[i]
        s.met[row] = done
        rise(s.bound, s.waiting, size + i, squared[i], row)


@native()
def pack_front(s: State, taken: int, width: int) -> None:
    """Write the front's points in packed form, see `pack`."""
    for i in range(taken):
        s.front_half[i] = pack(s.front_points[i], False, s.front_packed[i * width : (i + 1) * width]) / 2


@native()
def pack_centres(s: State, done: int, width: int) -> None:
    """Write all `done` centres in packed form, see `pack`."""
    for i in range(done):
        pack(s.centres[i], True, s.packed[i * width : (i + 1) * width])
