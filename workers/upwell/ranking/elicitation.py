"""Vectors and popularity in; the items to ask a new user about, out: known to many, and together near everything. Pure.

Each next item adds most to  sum over j of weight_j * max over asked i of cos(i, j),  the facility location of what all
users consume, times the chance that a user knows it at all, for which its popularity stands. (Rashid et al. 2002,
"Getting to know you", for popularity times information; Krause and Golovin 2014, for facility location and its greedy.)

Near is what is consumed together (`associations`). Embeddings of content are what there is before anything was consumed;
asking by them tells less about a person than asking about the most popular items (docs/decisions/0013-slate.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.profile import unit
from upwell.ranking.ranker import Ranker

COVERED: Final = 2_000
"""The most popular so many items are what is to be covered."""
CONTEXTS: Final = 200
"""... told apart by how often each was taken near the most popular so many."""


def telling(ranker: Ranker, count: int) -> NDArray[np.int64]:
    """[k] int64 rows to ask about, in order, by what a ranker has learned; k <= count, 0 where it has learned nothing."""
    items, ties = len(ranker.catalogue), ranker.catalogue.ties
    popularity = np.where(ranker.shared.live[:items], ranker.shared.counts[:items], 0)
    rows = np.lexsort((ties[:items], -popularity))[:COVERED]
    rows = rows[popularity[rows] > 0]
    if not len(rows):
        return np.zeros(0, np.int64)
    vectors = associations(ranker.company(rows, rows[:CONTEXTS]))
    found: NDArray[np.int64] = rows[elicitation(vectors, popularity[rows], ties[rows], count)]
    return found


def associations(together: NDArray[np.float64]) -> NDArray[np.float32]:
    """Unit rows of positive pointwise mutual information (Levy and Goldberg 2014).

    Args:
        together: [items, contexts] float64, how often each item was consumed with each of the most popular ones: some
            hundred contexts are enough.

    Returns:
        [items, contexts] float32; zero rows where nothing is known.
    """
    expected = np.outer(together.sum(axis=1), together.sum(axis=0))
    lift = np.divide(together * together.sum(), expected, out=np.ones_like(together), where=expected > 0)
    return unit(np.log(np.maximum(lift, 1)).astype(np.float32))


def elicitation(
    vectors: NDArray[np.float32],
    popularity: NDArray[np.float32],
    ties: NDArray[np.uint64],
    count: int,
    *,
    pool: int = 500,
    known: float = 0.5,
) -> NDArray[np.int64]:
    """Rows to ask about, in order.

    Args:
        vectors: [items, d] float32, unit rows: `associations`, or of content.
        popularity: [items] float32, 0 and above; its shares weigh what is to be covered. Items at 0 are not asked about.
        ties: [items] uint64, hashes of the item ids: of equal ones the smaller comes first.
        count: of items.
        pool: the most popular so many are asked about.
        known: power of popularity that stands for the chance to be known; 0 is coverage alone.

    Returns:
        [k] int64, k <= count. Memory is pool x items floats.
    """
    order = np.lexsort((ties, -popularity))[:pool]
    order = order[popularity[order] > 0]
    if not len(order):
        return np.zeros(0, np.int64)
    asked = np.flatnonzero(popularity > 0)
    weights = popularity[asked] / popularity[asked].sum()
    near = np.maximum(vectors[order] @ vectors[asked].T, 0)
    chance = (popularity[order] / popularity[order].max()) ** known
    covered = np.zeros(len(asked), np.float32)
    chosen: list[int] = []
    for _ in range(min(count, len(order))):
        gain = chance * (np.maximum(near - covered, 0) @ weights)
        gain[chosen] = -1
        best = np.flatnonzero(gain == gain.max())
        chosen.append(int(best[np.argmin(ties[order[best]])]))
        covered = np.maximum(covered, near[chosen[-1]])
    found: NDArray[np.int64] = order[chosen].astype(np.int64)
    return found
