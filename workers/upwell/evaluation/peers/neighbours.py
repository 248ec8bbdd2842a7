"""Item-to-item neighbours of the user's last events: the strongest of the simple peers on MovieLens.

Symmetric co-occurrence within 20 events, each step of distance counting 0.9, in learning as in ranking, divided by
count(last item)^0.7 and count(candidate)^0.3 (Deshpande and Karypis, 2004, "Item-based top-N recommendation
algorithms", with the decay of Ludewig and Jannach, 2018, "Evaluation of session-based recommendation algorithms").
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog

LAST, DECAY, OWN, OTHER = 20, 0.9, 0.7, 0.3


class ItemNeighbours:
    def __init__(self, log: RankingLog) -> None:
        items = len(log.items)
        self._user, self._item = log.stream.user.tolist(), log.stream.item.tolist()
        self._together = np.zeros((items, items), np.float32)
        self._count = np.zeros(items, np.float32)
        self._last: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=LAST))
        self._weight = (DECAY ** np.arange(LAST)).astype(np.float32)

    def scores(self, user: int) -> NDArray[np.float32]:
        last = np.array(self._last[user], np.int64)[::-1]
        if not len(last):
            return self._count
        weight = self._weight[: len(last)] / self._count[last] ** OWN
        near: NDArray[np.float32] = (weight @ self._together[last]) / np.maximum(self._count, 1) ** OTHER
        # Popularity, made small, orders what never came together with any of the last ones.
        return near + 1e-9 * self._count

    def learn(self, event: int) -> None:
        item, last = self._item[event], self._last[self._user[event]]
        before = np.array(last, np.int64)[::-1]
        weight = self._weight[: len(before)]
        np.add.at(self._together, (before, item), weight)
        np.add.at(self._together, (item, before), weight)
        self._count[item] += 1
        last.append(item)
