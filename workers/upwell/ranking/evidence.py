"""An item and what a user liked in; what may be told as the reason for the item out. Pure.

A claim needs its evidence: a liked item is named where it adds to the item's score, a taste where several liked items
share the category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_LIKED: Final = 2
"""A category of fewer liked items is no taste."""
LEAST_SHARE: Final = 0.25
"""... nor one of a smaller share of all liked items."""


def nearest(vectors: NDArray[np.float32], items: NDArray[np.int64], liked: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of some items, the liked item nearest to it.

    Args:
        vectors: [items, d] float32, unit rows.
        items: [k] rows.
        liked: [n] rows with a known vector, n >= 1.

    Returns:
        [k] int64 rows out of `liked`.
    """
    found: NDArray[np.int64] = liked[(vectors[items] @ vectors[liked].T).argmax(axis=1)]
    return found


def witnesses(vectors: NDArray[np.float32], item: int, liked: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """The liked items that speak for an item, each once: those whose cosine adds to its score, so is above 0.

    Args:
        vectors: [items, d] float32, unit rows.
        item: its row.
        liked: [n] rows with a known vector, oldest first; n may be 0.

    Returns:
        Rows out of `liked`, nearest first; and the same, latest first.
    """
    newest = np.array(list(dict.fromkeys(liked[::-1].tolist())), np.int64)
    newest = newest[newest != item]
    cosines = vectors[newest] @ vectors[item]
    latest, cosines = newest[cosines > 0], cosines[cosines > 0]
    return latest[np.argsort(-cosines, kind="stable")].tolist(), latest.tolist()


def tastes(categories: Sequence[str], liked: Sequence[Sequence[str]], most: int) -> list[str]:
    """Those of an item's categories that the user likes, the most liked first.

    Args:
        categories: of the item.
        liked: the categories of each liked item.
        most: how many at the most.
    """
    counts = Counter(name for names in liked for name in set(names))
    shared = [c for c in categories if counts[c] >= max(LEAST_LIKED, LEAST_SHARE * len(liked))]
    return sorted(shared, key=lambda name: -counts[name])[:most]
