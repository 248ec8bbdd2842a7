"""Alternating least squares of the library `implicit`, fitted anew every 5,000 events, users folded in.

Hu, Koren and Volinsky (2008), "Collaborative filtering for implicit feedback datasets". A user's factors are solved
from the user's events at the time of the ranking, so that new events and new users count at once. Factors, confidence
and regularisation are the best of five settings on MovieLens' first half.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from upwell.evaluation.ranking_log import RankingLog

EVERY, FACTORS, CONFIDENCE, REGULARISATION, ITERATIONS, SEED = 5_000, 32, 2.0, 0.1, 15, 11


class FoldedAls:
    """Raises ImportError where `implicit` is not installed."""

    def __init__(self, log: RankingLog) -> None:
        self._als: Any = importlib.import_module("implicit.cpu.als").AlternatingLeastSquares
        self._shape = (log.users, len(log.items))
        self._user, self._item = log.stream.user, log.stream.item
        self._had: list[list[int]] = [[] for _ in range(log.users)]
        self._items = np.zeros((self._shape[1], FACTORS), np.float32)
        self._square = np.eye(FACTORS, dtype=np.float32)
        self._count = np.zeros(self._shape[1], np.float32)

    def scores(self, user: int) -> NDArray[np.float32]:
        held = self._items[self._had[user]]
        # min over x of sum c (1 - x.y)^2 + |x|^2: confidence 1 + a for what was had, 1 elsewhere.
        left = self._square + CONFIDENCE * held.T @ held
        factors = np.linalg.solve(left, (1 + CONFIDENCE) * held.sum(axis=0)).astype(np.float32)
        return self._items @ factors + 1e-9 * self._count

    def learn(self, event: int) -> None:
        self._had[int(self._user[event])].append(int(self._item[event]))
        self._count[self._item[event]] += 1
        if (event + 1) % EVERY:
            return
        table = csr_matrix(
            (np.ones(event + 1, np.float32), (self._user[: event + 1], self._item[: event + 1])), shape=self._shape
        )
        table.data[:] = 1
        model = self._als(
            factors=FACTORS, regularization=REGULARISATION, alpha=CONFIDENCE, iterations=ITERATIONS, num_threads=1,
            random_state=SEED, calculate_training_loss=False,
        )  # fmt: skip
        model.fit(table, show_progress=False)
        self._items = np.asarray(model.item_factors)
        self._square = self._items.T @ self._items + REGULARISATION * np.eye(FACTORS, dtype=np.float32)
