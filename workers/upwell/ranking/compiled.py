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
    fast = {"reassoc", "contract", "nsz", "arcp"}
    return cast("Callable[P, R]", numba.njit(function, cache=True, nogil=True, fastmath=fast, error_model="numpy"))
