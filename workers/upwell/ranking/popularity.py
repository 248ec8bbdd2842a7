"""Decayed popularity of items: a sum of event weights that halves with each half-life of event time."""

from __future__ import annotations

from collections.abc import Sequence

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
