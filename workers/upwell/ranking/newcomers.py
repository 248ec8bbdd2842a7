"""New items: what they are like in, a prior score and a guaranteed number of first impressions out. Pure.

The guarantee is exact by construction and needs no coordination: each partition owes its part of an item's quota, the
parts add up to the quota, and a partition counts what it grants itself, in its log's order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def neighbours(
    vectors: NDArray[np.float32], new: NDArray[np.int64], known: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each new item the known items nearest to it by content.

    Args:
        vectors: [items, d] float32, unit rows.
        new: [n] int64 rows.
        known: [items] bool, items that have interactions to inherit.
        count: neighbours of each.

    Returns:
        [n, k] int64 rows, nearest first (of equal ones the lower row), and [n, k] float32 cosines; k <= count.
    """
    pool = np.flatnonzero(known)
    taken = min(count, len(pool))
    if not taken or not len(new):
        return np.zeros((len(new), taken), np.int64), np.zeros((len(new), taken), np.float32)
    cosines = vectors[new] @ vectors[pool].T
    cosines[new[:, None] == pool] = -2  # nobody's own neighbour
    nearest = np.sort(np.argpartition(-cosines, taken - 1, axis=1)[:, :taken], axis=1)
    order = np.argsort(-np.take_along_axis(cosines, nearest, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, axis=1)
    return pool[nearest], np.take_along_axis(cosines, nearest, axis=1)


def inherited(
    rows: NDArray[np.int64], cosines: NDArray[np.float32], scores: NDArray[np.float32], doubt: float = 0.5
) -> NDArray[np.float32]:
    """What its neighbours' scores say about each new item: their mean by cosine, held down by `doubt`.

    Args:
        rows: [n, k] int64, `cosines` [n, k] float32: as `neighbours` gives them; cosines below 0 say nothing.
        scores: [items] float32, any scorer's: one user's or everybody's.
        doubt: weight of a neighbour with score 0, in cosines: an item that is like nothing inherits next to nothing.

    Returns:
        [n] float32.
    """
    weights = np.maximum(cosines, 0)
    found: NDArray[np.float32] = (weights * scores[rows]).sum(axis=1) / (weights.sum(axis=1) + np.float32(doubt))
    return found


def part(quota: int, partition: int, partitions: int, item: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[n] int64, how much of each item's quota one partition owes. Over all partitions the parts sum to the quota.

    Args:
        item: [n] uint64, hashes of the item ids: who owes the remainder turns with it.
    """
    whole, rest = divmod(quota, partitions)
    turned = (np.uint64(partition) + item) % np.uint64(partitions)
    return whole + (turned < np.uint64(rest)).astype(np.int64)


class FirstImpressions:
    """What one partition still owes its new items."""

    def __init__(self) -> None:
        self.owed: dict[int, int] = {}
        """Impressions by catalogue row; items without any left are gone."""
        self.promised: set[int] = set()
        """Rows that were ever promised anything: nobody is new twice."""

    def promise(self, rows: NDArray[np.int64], owed: NDArray[np.int64]) -> None:
        """Add new items with what they are owed (`part`); items that were promised before get nothing more."""
        for row, count in zip(rows.tolist(), owed.tolist(), strict=True):
            if row not in self.promised:
                self.promised.add(row)
                if count > 0:
                    self.owed[row] = count

    def choose(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], ties: NDArray[np.uint64], places: int
    ) -> NDArray[np.int64]:
        """The owed items that fit one user best.

        Args:
            rows: [n] int64, candidates that the user may be shown; `scores`, [n] float32, for this user.
            ties: [items] uint64, hashes of the item ids.
            places: how many are wanted.

        Returns:
            [k] int64 rows, k <= places, best first. Nothing is counted yet: `grant` counts what was published.
        """
        if not self.owed:
            return np.zeros(0, np.int64)
        open_ = np.fromiter((row in self.owed for row in rows.tolist()), bool, len(rows))
        kept = rows[open_]
        order = np.lexsort((ties[kept], -scores[open_]))
        chosen: NDArray[np.int64] = kept[order[:places]]
        return chosen

    def grant(self, rows: NDArray[np.int64]) -> None:
        """Count impressions that went out in a committed ranking; what was owed nothing is not counted."""
        for row in rows.tolist():
            left = self.owed.get(row, 0) - 1
            if left > 0:
                self.owed[row] = left
            else:
                self.owed.pop(row, None)

    def withdraw(self, rows: NDArray[np.int64]) -> None:
        """Deleted items are owed nothing any more."""
        for row in rows.tolist():
            self.owed.pop(row, None)


def placed(slate: NDArray[np.int64], first: NDArray[np.int64], places: int) -> NDArray[np.int64]:
    """The slate with owed items on its last places; the others keep their order, and the best place is nobody's quota.

    Args:
        slate: [k] int64 rows, best first.
        first: [f] int64 rows that are owed impressions, best first; one that is in the slate already stays where it is.
        places: of the slate.

    Returns:
        [<= places] int64 rows, distinct.
    """
    added = first[~np.isin(first, slate)][: places - 1 if len(slate) else places]
    # What is owed and earned its place already is not pushed out by what is owed and did not.
    room = places - len(added)
    earned = np.isin(slate, first)
    spare = np.flatnonzero(~earned)
    surplus = max(len(slate) - room, 0)
    out = spare[max(len(spare) - surplus, 0) :]
    kept = np.delete(slate, out)[:room]
    found: NDArray[np.int64] = np.concatenate([kept, added])[:places]
    return found
