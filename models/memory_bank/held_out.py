"""The bank as it would be if some training pictures were held out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..threads import one_thread
from .clusters import Clusters
from .search import coarse_form, half_norms_of


@dataclass(frozen=True)
class HeldOut:
    """What is needed to change a bank for pictures of one fit or update that are held out."""

    number: np.ndarray
    """The picture that each row comes from, int64 [rows], numbered from 0; pictures of earlier fits are below 0."""
    replacement: np.ndarray
    """The row that replaces each row, int64 [rows], see `neighbours`."""
    clusters: Clusters | None = None
    farthest: tuple[np.ndarray, np.ndarray] | None = None
    """Given with `clusters`: its farthest patches, int64 [n] rows and float32 [n, channels] patches, centred."""

    def changes(self, pictures: range, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The last four arguments of `rows_replaced` for held-out pictures; `patches` are theirs, centred.

        Each row that comes from these pictures is replaced by a patch of another picture (see `Clusters`), or, if there
        is none, by its `replacement`. Rows that were moved towards patches of these pictures are set to where they
        would have moved without these patches.
        """
        rows = np.flatnonzero((self.number >= pictures.start) & (self.number < pictures.stop))
        changed, values = rows[:0], patches[:0]
        if self.clusters is not None:
            (replaced, others), (changed, values) = self.farthest, self.clusters.without(pictures, patches)
            own = np.flatnonzero(np.isin(replaced, rows))
            kept, rows = ~np.isin(changed, rows), np.setdiff1d(rows, replaced)
            changed = np.concatenate([changed[kept], replaced[own]])
            values = np.concatenate([values[kept], others[own]])
        return rows, self.replacement[rows], changed, values


@contextmanager
def rows_replaced(
    fitted: dict[str, np.ndarray], rows: np.ndarray, others: np.ndarray, changed: np.ndarray, values: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """Replace rows of a bank, and their entries in the tables that belong to it, in place until the context ends.

    First row changed[i] is set to values[i], float32 [n, channels]; then row rows[i] is set to row others[i]. The
    table of the coarse search is not changed in place: a changed copy is yielded, by name.
    """
    replacement = np.arange(len(fitted["memory_bank"]))
    replacement[rows] = others
    tables = replace_rows(fitted, replacement, changed, values) if "coarse_bank" in fitted else {}
    names = "memory_bank", "half_norms", "neighbors", "spacing", "least_spacing"
    by_row = [fitted[name] for name in names if name in fitted]
    touched = np.union1d(rows, changed)
    own = [value[touched] for value in by_row]
    try:
        fitted["memory_bank"][changed], fitted["half_norms"][changed] = values, half_norms_of(values)
        for value in by_row:
            value[rows] = value[others]
        yield tables
    finally:
        for value, kept in zip(by_row, own):
            value[touched] = kept


@one_thread
def replace_rows(
    tables: dict[str, np.ndarray], rows: np.ndarray, changed: np.ndarray, values: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the coarse search's table for a changed bank, a copy, by name.

    First row changed[i] is set to values[i], float32 [n, channels]; then row i is set to row rows[i], for all rows. A
    row that replaces another one must not be replaced itself.
    """
    coarse_bank, places = tables["coarse_bank"].copy(), tables["coarse_rows"].T
    if len(changed):
        form, number = coarse_form(values, tables["coarse_axes"].T), np.full(len(rows), -1)
        number[changed] = np.arange(len(changed))
        segment, place = np.nonzero(number[places] >= 0)
        coarse_bank[segment, place] = form[number[places[segment, place]]]
    moved = rows[places]
    segment, place = np.nonzero(moved != places)
    other, segments = moved[segment, place], len(coarse_bank)
    coarse_bank[segment, place] = coarse_bank[other % segments, other // segments]
    return {"coarse_bank": coarse_bank}
