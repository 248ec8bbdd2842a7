"""Published slates in; who gets how much attention out: by item group, by popularity, and how unequally. Pure.

Exposure of a place is 1 / log2(1 + place), the chance that it is looked at as far as anybody knows (Singh and Joachims
2018). Normalised exposure is a group's share of it over the group's share of what it is compared with: its items, or
what people consumed. 1 is in proportion, 2 is twice that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.groups import Groups

DECILES: Final = 10


@dataclass(frozen=True, slots=True)
class Shares:
    """Per group, float64; nan where a group has no part in what it is compared with."""

    names: list[str]
    exposure: NDArray[np.float64]
    """[groups], share of all exposure."""
    items: NDArray[np.float64]
    """[groups], share of all items."""
    per_item: NDArray[np.float64]
    """[groups], exposure normalised by items."""
    per_consumption: NDArray[np.float64]
    """[groups], exposure normalised by consumption: above 1 the rankings push the group, below 1 they hide it."""


def exposure(slates: NDArray[np.int64], items: int) -> NDArray[np.float64]:
    """[items] float64, what each item got from [u, k] slates of catalogue rows, best first, -1 where there is none."""
    weight = np.broadcast_to(1 / np.log2(np.arange(slates.shape[1]) + 2), slates.shape)
    filled = slates >= 0
    return np.bincount(slates[filled], weight[filled], minlength=items).astype(np.float64)


def gini(values: NDArray[np.float64]) -> float:
    """Inequality of [n] values, none below 0: 0 where all are equal, (n - 1) / n where one has everything; nan for none.

    Half the mean absolute difference over the mean (Gini 1912), from the sorted values.
    """
    total = float(values.sum())
    if total <= 0:
        return float("nan")
    n = len(values)
    ranks = 2 * np.arange(1, n + 1) - n - 1
    return float(ranks @ np.sort(values)) / (n * total)


def by_group(received: NDArray[np.float64], consumed: NDArray[np.float64], groups: Groups) -> Shares:
    """Exposure of item groups; an item of several counts in each with an even part, an item of none in none.

    Args:
        received: [items] float64, `exposure` added up.
        consumed: [items] float64, events of people, 0 and above.
        groups: over catalogue rows.
    """
    rows = np.arange(len(groups))
    got, has, taken = (groups.shares(rows, values) for values in (received, np.ones(len(rows)), consumed))
    return _shares(groups.names, got, has, taken)


def by_popularity(
    received: NDArray[np.float64],
    consumed: NDArray[np.float64],
    popularity: NDArray[np.float64],
    ties: NDArray[np.uint64],
) -> Shares:
    """The same by decile of popularity, the least popular tenth of the items first; `popularity` from before the slates.

    Args:
        popularity: [items] float64.
        ties: [items] uint64, hashes of the item ids: equally popular items are dealt to deciles in their order.
    """
    order = np.lexsort((ties, popularity))
    decile = np.empty(len(order), np.int64)
    decile[order] = np.arange(len(order)) * DECILES // max(len(order), 1)
    got, has, taken = (
        np.bincount(decile, values, minlength=DECILES).astype(np.float64)
        for values in (received, np.ones(len(order)), consumed)
    )
    return _shares([str(number) for number in range(1, DECILES + 1)], got, has, taken)


def _shares(names: list[str], got: NDArray[np.float64], has: NDArray[np.float64], taken: NDArray[np.float64]) -> Shares:
    share, items, consumption = (values / values.sum() if values.sum() > 0 else values for values in (got, has, taken))
    return Shares(names, share, items, _ratio(share, items), _ratio(share, consumption))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
