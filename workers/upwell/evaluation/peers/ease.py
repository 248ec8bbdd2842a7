"""EASE, fitted anew every 5,000 events on all of them: Steck (2019), "Embarrassingly shallow autoencoders"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog

EVERY, REGULARISATION = 5_000, 200.0


class Ease:
    """Between fits a user's new events count at once: only the item-to-item weights are old."""

    def __init__(self, log: RankingLog) -> None:
        items = len(log.items)
        self._user, self._item = log.stream.user.tolist(), log.stream.item.tolist()
        self._had: list[list[int]] = [[] for _ in range(log.users)]
        self._gram = np.zeros((items, items), np.float32)
        self._weights = np.zeros((items, items), np.float32)
        self._count = np.zeros(items, np.float32)

    def scores(self, user: int) -> NDArray[np.float32]:
        return self._weights[self._had[user]].sum(axis=0) + 1e-9 * self._count  # type: ignore[no-any-return]

    def learn(self, event: int) -> None:
        item, had = self._item[event], self._had[self._user[event]]
        if item not in had:
            self._gram[item, had] += 1
            self._gram[had, item] += 1
            self._gram[item, item] += 1
            had.append(item)
        self._count[item] += 1
        if (event + 1) % EVERY == 0:
            gram = self._gram.copy()
            gram[np.diag_indices_from(gram)] += REGULARISATION
            inverse = np.linalg.inv(gram)
            self._weights = (-inverse / np.diag(inverse)).astype(np.float32)
            np.fill_diagonal(self._weights, 0)
