"""Decayed popularity of items: a sum of event weights that halves with each half-life of event time.

A function of the `statistics` log alone: every worker that has read to the same offset holds the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.profile import VANISHED


class Popularity:
    """Sums per catalogue row, relative to 2^base half-lives."""

    def __init__(self, half_life_ms: float) -> None:
        self.half_life_ms = half_life_ms
        self.base = 0
        self.sums: NDArray[np.float64] = np.zeros(1024)

    def learn(self, rows: Sequence[int], times: Sequence[int], weights: Sequence[float]) -> None:
        """Add weights (negative ones lower an item) at event times in ms; all of equal length."""
        if not rows:
            return
        ages = np.asarray(times, np.int64) / self.half_life_ms
        bases = np.floor(ages).astype(np.int64)
        factors = np.exp2(ages - bases)
        newest = int(bases.max())
        if newest > self.base:
            self.sums *= np.ldexp(1.0, max(self.base - newest, -1000))
            self.base = newest
        top = max(rows)
        if top >= len(self.sums):
            self.sums = np.concatenate([self.sums, np.zeros(max(top + 1 - len(self.sums), len(self.sums)))])
        added = np.ldexp(np.asarray(weights, np.float64) * factors, np.maximum(bases - self.base, VANISHED).astype(int))
        np.add.at(self.sums, np.asarray(rows), added)

    def scores(self, rows: int) -> NDArray[np.float32]:
        """[rows] float32 in [0, 1]: log(1 + sum) over that of the most popular item."""
        sums = np.zeros(rows)
        held = min(rows, len(self.sums))
        sums[:held] = np.maximum(self.sums[:held], 0.0)
        logs = np.log1p(sums)
        top = logs.max(initial=0.0)
        return (logs / top if top > 0 else logs).astype(np.float32)

    def state(self, ids: Sequence[str]) -> tuple[int, list[str], list[float]]:
        """What a snapshot holds: base, and the items with a sum. `ids` names the rows."""
        held = np.flatnonzero(self.sums[: len(ids)])
        return self.base, [ids[row] for row in held], self.sums[held].tolist()

    def restore(self, base: int, rows: Iterable[int], sums: Iterable[float]) -> None:
        self.base = base
        for row, value in zip(rows, sums, strict=True):
            if row >= len(self.sums):
                self.sums = np.concatenate([self.sums, np.zeros(max(row + 1 - len(self.sums), len(self.sums)))])
            self.sums[row] = value
