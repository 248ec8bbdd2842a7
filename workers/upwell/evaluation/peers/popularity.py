"""Popularity with a half-life in events: the half-life that has predicted best so far ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog

HALF_LIVES = (50.0, 300.0, 2_000.0, 10_000.0, 1e9)


class DecayedPopularity:
    """Each half-life is judged by the log of the share that it gave to what came: follow the leader."""

    def __init__(self, log: RankingLog) -> None:
        self._item = log.stream.item.tolist()
        self._decay: NDArray[np.float64] = np.exp2(-1 / np.asarray(HALF_LIVES))
        self._sums = np.zeros((len(HALF_LIVES), len(log.items)))
        """Relative to the gain."""
        self._gain: NDArray[np.float64] = np.ones(len(HALF_LIVES))
        self._total: NDArray[np.float64] = np.zeros(len(HALF_LIVES))
        self._likely = np.zeros(len(HALF_LIVES))

    def scores(self, user: int) -> NDArray[np.float64]:
        del user
        leader = int(self._likely.argmax())
        return self._sums[leader] / self._gain[leader]  # type: ignore[no-any-return]

    def learn(self, event: int) -> None:
        item = self._item[event]
        items = self._sums.shape[1]
        self._likely += np.log((self._sums[:, item] / self._gain + 1 / items) / (self._total + 1))
        self._gain /= self._decay
        self._sums[:, item] += self._gain
        self._total *= self._decay
        self._total += 1
        for each in np.flatnonzero(self._gain > 1e100):
            self._sums[each] /= self._gain[each]
            self._gain[each] = 1
