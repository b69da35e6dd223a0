"""Compile functions with numba, and keep their machine code for the next process where there is a place for it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Callable

import numba
from numba.core.caching import FunctionCache


class _Kept(FunctionCache):
    """A function's machine code in files; what does not fit on the disk is compiled anew by the next process."""

    def save_overload(self, *code: Any) -> None:
        """Write what was compiled for some types of arguments."""
        with suppress(OSError):
            super().save_overload(*code)


def native(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: `numba.njit` with these options, kept in `__pycache__` or, where that is read-only, in ~/.cache.

    Where neither can be written, nor what NUMBA_CACHE_DIR names, each process compiles anew.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        made = numba.njit(**options)(function)
        with suppress(RuntimeError):  # there is no place
            made._cache = _Kept(function)
        return made

    return compiled
