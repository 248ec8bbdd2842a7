"""Incremental matrix factorisation for positive-only feedback.

ISGD of Vinagre, Jorge and Gama (2014), "Fast incremental matrix factorization for recommendation with positive-only
feedback", the best of four settings
on MovieLens' first half; users' and items' factors begin small.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog

FACTORS, RATE, REGULARISATION, SEED = 32, 0.1, 0.1, 11


class IncrementalFactors:
    def __init__(self, log: RankingLog) -> None:
        rng = np.random.default_rng(SEED)
        self._user, self._item, self._liked = log.stream.user, log.stream.item, log.stream.target
        self._users = rng.normal(0, 0.1, (log.users, FACTORS)).astype(np.float32)
        self._items = rng.normal(0, 0.1, (len(log.items), FACTORS)).astype(np.float32)

    def scores(self, user: int) -> NDArray[np.float32]:
        # As in the paper: the nearer to 1, the better.
        return -np.abs(1 - self._items @ self._users[user])  # type: ignore[no-any-return]

    def learn(self, event: int) -> None:
        if not self._liked[event]:
            return
        user, item = self._users[self._user[event]], self._items[self._item[event]]
        error = 1 - user @ item
        user += RATE * (error * item - REGULARISATION * user)
        item += RATE * (error * user - REGULARISATION * item)
