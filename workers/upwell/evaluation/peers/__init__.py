"""Other ways to rank, under the same protocol: a log in, a peer that scores all items for a user and learns events."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.new_items import Releases
from upwell.evaluation.peers.als import FoldedAls
from upwell.evaluation.peers.ease import Ease
from upwell.evaluation.peers.isgd import IncrementalFactors
from upwell.evaluation.peers.neighbours import ItemNeighbours
from upwell.evaluation.peers.popularity import DecayedPopularity
from upwell.evaluation.ranking_log import RankingLog


class Peer(Protocol):
    """Made from a log, of which it may read an event only after `learn` was called with it."""

    def scores(self, user: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """[items], higher is better."""

    def learn(self, event: int) -> None:
        """The event has happened."""


PEERS: Final[dict[str, Callable[[RankingLog], Peer]]] = {
    "popularity": DecayedPopularity,
    "item_knn": ItemNeighbours,
    "isgd": IncrementalFactors,
    "ease": Ease,
    "als": FoldedAls,
}
"""By JSON key."""
EVERY: Final = 1_000
"""Events between two signs of life."""


class Judged(NamedTuple):
    """What a peer's replay of e events found."""

    rank: NDArray[np.int64]
    """[e] candidates before the item that came, -1 where the event is no target."""
    new: NDArray[np.int64]
    """[e] the same of new items' targets, when only what is released is a candidate; -1 elsewhere."""
    us_per_event: float
    """Processor time of learning and ranking one event, us."""


def judged(
    peer: Peer, log: RankingLog, released: Releases, done: Callable[[int, int], None] = lambda *_: None
) -> Judged:
    """Test, then learn.

    Args:
        done: told how many events of how many have been replayed.
    """
    rank, new = np.full(log.events, -1, np.int64), np.full(log.events, -1, np.int64)
    user, item, targets = log.stream.user.tolist(), log.stream.item.tolist(), log.targets
    gone: dict[int, list[int]] = defaultdict(list)
    dead = ~log.live
    ranking = learning = 0.0
    for event in range(log.events):
        if targets[event]:
            start = time.process_time()
            scores = np.array(peer.scores(user[event]), np.float32)
            ranking += time.process_time() - start
            scores[dead] = -np.inf
            scores[gone[user[event]]] = -np.inf
            rank[event] = _before(scores, item[event]) if log.live[item[event]] else len(scores)
            if released.targets[event]:
                scores[released.at > event] = -np.inf
                new[event] = _before(scores, item[event])
        start = time.process_time()
        peer.learn(event)
        learning += time.process_time() - start
        gone[user[event]].append(item[event])
        if (event + 1) % EVERY == 0:
            done(event + 1, log.events)
    each = learning / max(log.events, 1) + ranking / max(int(targets.sum()), 1)
    return Judged(rank, new, each * 1e6)


def _before(scores: NDArray[np.float32], own: int) -> int:
    """Items ahead of one. Equal scores are in the order of rows, which is by hash."""
    return int((scores > scores[own]).sum() + (scores[:own] == scores[own]).sum())
