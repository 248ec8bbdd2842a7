"""Scores of all candidates for many users at once, their best items, and each scorer's share in them.

score = taste * cos(profile, item) + recent * cos(last liked items, item) + popular * popularity(item)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""Users scored by one matrix product: bounds the memory to BLOCK x items floats."""
RECENCY = 0.8
"""Each step back among the recent liked items counts this much less."""


@dataclass(frozen=True, slots=True)
class Mix:
    taste: float
    recent: float
    popular: float


@dataclass(slots=True)
class Slates:
    """The best items of u users; -1 fills a row where there are fewer candidates than places."""

    rows: NDArray[np.int64]
    """[u, k] catalogue rows, best first."""
    scores: NDArray[np.float32]
    """[u, k]."""
    taste: NDArray[np.float32]
    """[u, k] share of the profile in the score; likewise recent and popular."""
    recent: NDArray[np.float32]
    popular: NDArray[np.float32]


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
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)


def best(
    profiles: NDArray[np.float32],
    recent: NDArray[np.float32],
    vectors: NDArray[np.float32],
    popularity: NDArray[np.float32],
    live: NDArray[np.bool_],
    seen: Sequence[NDArray[np.integer[Any]]],
    mix: Mix,
    places: int,
) -> Slates:
    """The best live, unseen items of each user; equal scores are ordered by row.

    Args:
        profiles: [u, d] float32, unit rows.
        recent: [u, d] float32, unit rows.
        vectors: [items, d] float32, unit rows.
        popularity: [items] float32 in [0, 1].
        live: [items] bool, the candidates.
        seen: per user the rows that are no candidates.
        places: k.
    """
    users, items = len(profiles), len(vectors)
    rows = np.full((users, places), -1, np.int64)
    scores = np.zeros((users, places), np.float32)
    shared = np.where(live, np.float32(mix.popular) * popularity, -np.inf).astype(np.float32)
    taken = min(places, items)
    for start in range(0, users if taken else 0, BLOCK):
        block = slice(start, min(start + BLOCK, users))
        query = np.float32(mix.taste) * profiles[block] + np.float32(mix.recent) * recent[block]
        table = query @ vectors.T
        table += shared
        for user, gone in enumerate(seen[block]):
            table[user, gone] = -np.inf
        chosen = np.argpartition(table, items - taken, axis=1)[:, items - taken :]
        chosen.sort(axis=1)
        values = np.take_along_axis(table, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        chosen = np.take_along_axis(chosen, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        there = np.isfinite(values)
        rows[block, :taken] = np.where(there, chosen, -1)
        scores[block, :taken] = np.where(there, values, 0)
    picked = vectors[np.maximum(rows, 0)] if items else np.zeros((users, places, profiles.shape[1]), np.float32)
    filled = rows >= 0
    popular = popularity[np.maximum(rows, 0)] if items else np.zeros((users, places), np.float32)
    return Slates(
        rows=rows,
        scores=scores,
        taste=np.where(filled, np.float32(mix.taste) * np.einsum("ukd,ud->uk", picked, profiles), 0),
        recent=np.where(filled, np.float32(mix.recent) * np.einsum("ukd,ud->uk", picked, recent), 0),
        popular=np.where(filled, np.float32(mix.popular) * popular, 0),
    )


def evidence(
    vectors: NDArray[np.float32], slate: NDArray[np.int64], liked: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each item of a slate, the liked item nearest to it.

    Args:
        vectors: [items, d] float32, unit rows.
        slate: [k] rows, all >= 0.
        liked: [n] rows with a known vector, n >= 1.

    Returns:
        [k] rows out of `liked`, and [k] float32 cosines.
    """
    table = vectors[slate] @ vectors[liked].T
    nearest = table.argmax(axis=1)
    return liked[nearest], table[np.arange(len(slate)), nearest]
