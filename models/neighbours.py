"""Nearest rows within a memory bank, found once when it is fitted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deploy.errors import UserError

ROWS = 1024  # rows compared at a time: bounds memory to ROWS x bank


def bank_neighbours(bank: np.ndarray, half_norms: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest rows of every row, itself first, then by distance: int64 [rows, count].

    `bank` is float32 [rows, channels] and `half_norms` holds half the squared norm of each row.
    """
    table = np.empty((len(bank), count), np.int64)
    for rows, nearness in _nearness(bank, half_norms):
        nearness[np.arange(len(rows)), rows] = np.inf  # itself, even when a copy of it exists
        best = np.argpartition(-nearness, count - 1, axis=1)[:, :count] if count < len(bank) else None
        if best is None:
            table[rows] = np.argsort(-nearness, axis=1, kind="stable")
        else:
            order = np.argsort(-np.take_along_axis(nearness, best, 1), axis=1, kind="stable")
            table[rows] = np.take_along_axis(best, order, 1)
    return table


def stand_ins(bank: np.ndarray, half_norms: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """For every row the nearest row that another picture gave: int64 [rows]. `owner` is the picture of each row.

    Raises:
        UserError: all rows come from one picture.
    """
    if (owner == owner[0]).all():
        raise UserError("all rows of the memory bank come from one picture: give more pictures or raise --k")
    nearest = np.empty(len(bank), np.int64)
    for rows, nearness in _nearness(bank, half_norms):
        nearness[owner[rows][:, None] == owner[None]] = -np.inf
        nearest[rows] = nearness.argmax(axis=1)
    return nearest


def _nearness(bank: np.ndarray, half_norms: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of row numbers with q b - |b|^2 / 2 for every row of the bank: larger is nearer."""
    for start in range(0, len(bank), ROWS):
        rows = np.arange(start, min(start + ROWS, len(bank)))
        yield rows, bank[rows] @ bank.T - half_norms
