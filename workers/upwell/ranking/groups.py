"""Which groups (categories, capped sets, segments) each item is in: lists of names in, two flat arrays out.

The layout is a compressed sparse row matrix of booleans, the one form in which compiled loops and NumPy both read it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Groups:
    """Members by item row: those of row i are `members[starts[i]:starts[i + 1]]`, ascending."""

    names: list[str]
    starts: NDArray[np.int32]
    """[items + 1] int32."""
    members: NDArray[np.int32]
    """[memberships] int32, indices into `names`."""

    @classmethod
    def of(cls, named: Sequence[Collection[str]]) -> Groups:
        """Groups from each item's names; a name that an item repeats counts once. Names come out sorted."""
        names = sorted({name for inner in named for name in inner})
        number = {name: index for index, name in enumerate(names)}
        pairs = [(row, number[name]) for row, inner in enumerate(named) for name in inner]
        rows, members = np.array(pairs, np.int64).reshape(-1, 2).T
        return cls.of_pairs(names, len(named), rows, members)

    @classmethod
    def of_pairs(cls, names: list[str], items: int, rows: NDArray[np.int64], members: NDArray[np.int64]) -> Groups:
        """Groups from [pairs] item rows and [pairs] indices into `names`, in any order; repetitions count once."""
        width = max(len(names), 1)
        keys = np.unique(rows * width + members)
        starts = np.searchsorted(keys, np.arange(items + 1) * width).astype(np.int32)
        return cls(names, starts, (keys % width).astype(np.int32))

    def __len__(self) -> int:
        """Items."""
        return len(self.starts) - 1

    def wider(self, items: int) -> Groups:
        """The same with room for `items` items, those that come last in no group."""
        return Groups(self.names, np.pad(self.starts, (0, items - len(self)), mode="edge"), self.members)

    def members_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[m] indices into [n] `rows`, repetitions included, and [m] the groups that those items are in."""
        begins, counts = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        which = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, self.members[np.repeat(begins, counts) + within].astype(np.int64)

    def matrix(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n, groups] bool, whether item `rows[i]` is in the group."""
        found = np.zeros((len(rows), len(self.names)), bool)
        found[self.members_of(rows)] = True
        return found

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[memberships] item rows and [memberships] groups, by row."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts)), self.members.astype(np.int64)

    def shares(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[groups] float64: the weight of each group, an item's weight split evenly over its groups (Steck 2018)."""
        inside = self.matrix(rows)
        each = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
        shared: NDArray[np.float64] = weights @ each
        return shared


@lru_cache
def none(items: int) -> Groups:
    """No group for any of `items` items."""
    return Groups([], np.zeros(items + 1, np.int32), np.zeros(0, np.int32))
