"""A user's profile vector: a sum of item vectors weighted by event type and by 2^(event time / half-life).

The sum is kept relative to 2^base, base being the whole half-lives up to the newest event. Moving the base multiplies
by a power of two, which is exact in float32, so the vector is a function of the events in their log order alone:
batch sizes and restarts change no bit of it. (Exponential forgetting as in Koychev, 2000, "Gradual forgetting for
adaptation to concept drift".)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

EMPTY_BASE = np.iinfo(np.int64).min
"""Base of a profile without events."""
VANISHED = -150
"""2^-150 is below the least float32: what is that old adds nothing."""
RECENCY = 0.8
"""Each step back among the recent liked items counts this much less."""


def decay(time_ms: int, half_life_ms: float) -> tuple[int, float]:
    """Split an event time into whole half-lives and the factor of the rest.

    Args:
        time_ms: event time, ms since the epoch.
        half_life_ms: event time after which an event weighs half, ms.

    Returns:
        base and factor in [1, 2): 2^(time / half-life) = factor * 2^base.
    """
    age = time_ms / half_life_ms
    base = math.floor(age)
    return base, 2.0 ** (age - base)


def add(
    vectors: NDArray[np.float32],
    bases: NDArray[np.int64],
    slot: int,
    item: NDArray[np.float32],
    weight: float,
    base: int,
    factor: float,
) -> None:
    """Add one event to one profile, in place.

    Args:
        vectors: [users, d] float32, relative to 2^bases.
        bases: [users] int64; `EMPTY_BASE` for a profile without events.
        slot: the user's row.
        item: [d] float32, the item's vector.
        weight: of the event's type.
        base, factor: of the event's time, from `decay`.
    """
    held = int(bases[slot])
    if held == EMPTY_BASE:
        bases[slot] = held = base
    elif base > held:
        vectors[slot] *= np.float32(math.ldexp(1.0, max(held - base, VANISHED)))
        bases[slot] = held = base
    vectors[slot] += item * np.float32(math.ldexp(weight * factor, max(base - held, VANISHED)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a zero row stays zero. [n, d] float32 in and out."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def recent_interest(vectors: NDArray[np.float32], liked: list[NDArray[np.int64]], count: int) -> NDArray[np.float32]:
    """Unit sum of each user's last liked items, the newest counting most.

    Args:
        vectors: [items, d] float32.
        liked: per user the rows of liked items with a known vector, oldest first.
        count: how many of the last are taken.

    Returns:
        [u, d] float32; zero where nothing is liked yet.
    """
    found = np.zeros((len(liked), vectors.shape[1]), np.float32)
    for user, rows in enumerate(liked):
        last = rows[-count:]
        if len(last):
            steps = np.arange(len(last) - 1, -1, -1, dtype=np.float32)
            found[user] = np.power(np.float32(RECENCY), steps) @ vectors[last]
    return unit(found)
