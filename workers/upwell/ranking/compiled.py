"""Compilation of the innermost loops: typed Python in, the same function as machine code out (Numba)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function compiled at its first call, kept beside its source for the next process.

    Sums may be reordered, which lets dot products use vector instructions; infinities keep their meaning. The lock of
    the interpreter is released while it runs.
    """
    return _compiled(function, {"reassoc", "contract", "nsz", "arcp"})


def compiled_exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Like `compiled`, in the order of operations that is written: the same bits on every machine."""
    return _compiled(function, set())


def _compiled(function: Callable[P, R], fast: set[str]) -> Callable[P, R]:
    return cast("Callable[P, R]", numba.njit(function, cache=True, nogil=True, fastmath=fast, error_model="numpy"))
