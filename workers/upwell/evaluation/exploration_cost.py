"""A log in; what drawing the last places of slates takes off their hit rate out. Expected, not drawn: without its noise.

Test, then learn, with the ranker, the candidates and the draws of a worker; items have no vectors here. What exploring brings
cannot be seen on a log: what its users did does not depend on what is drawn now (`exploration_world`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog
from upwell.ranking import kernel, learner
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.exploration import Budget
from upwell.ranking.explorer import Explorer
from upwell.ranking.ranker import Ranker

PLACES: Final = 10
WAYS: Final = ("none", "uniform", "thompson")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of t targets, in log order."""

    hit: dict[str, Floats]
    """By way [t] probability that the target is on the slate before it, were each slate explored."""
    gain: dict[str, Floats]
    """... and its expected NDCG, cut at `PLACES`."""
    moved: dict[str, Floats]
    """... and the expected number of items on it that would not be there without exploration."""
    late: NDArray[np.bool_]
    """[t] second half of the log."""

    def as_dict(self, share: float) -> dict[str, Any]:
        """For JSON: figures where `share` of the slates are explored."""
        return {way: self._of(way, share) for way in WAYS}

    def _of(self, way: str, share: float) -> dict[str, Any]:
        def mixed(by_way: dict[str, Floats], where: NDArray[np.bool_]) -> float:
            return round(float(((1 - share) * by_way["none"] + share * by_way[way])[where].mean()), 5)

        everything = np.ones(len(self.late), bool)
        return {
            "hr_at_10": mixed(self.hit, everything),
            "ndcg_at_10": mixed(self.gain, everything),
            "halves": [{"hr_at_10": mixed(self.hit, where)} for where in (~self.late, self.late)],
            "other_items": mixed(self.moved, everything),
        }


def cost(log: RankingLog, budget: Budget, candidates: int, done: Callable[[int, int], None] = lambda *_: None) -> Cost:
    """Replay a log.

    Args:
        budget: its share is not looked at.
        candidates: of a user, out of which places are drawn.
        done: told how many events of how many have been replayed.
    """
    catalogue = Catalogue(len(log.items))
    for row, name in enumerate(log.items):
        names = [log.categories[number - 1] for number in log.category[row].tolist() if number]
        catalogue.put(name, np.zeros(1, np.float32), name, names, 1.0)
        if not log.live[row]:
            catalogue.remove(name)
    ranker = Ranker(catalogue, 0.0)
    ranker.fit()
    recent, into = ranker.users(log.users), learner.lessons(1, ranker.tuning)
    explorer = Explorer(replace(budget, share=1.0), PLACES)
    had, nothing = [list[int]() for _ in range(log.users)], np.zeros((1, 1), np.float32)
    found: dict[str, list[Floats]] = {way: [] for way in WAYS}
    targets, stream = np.flatnonzero(log.targets), log.stream
    wanted, last = log.targets, range(PLACES - explorer.budget.positions, PLACES)
    kernel.refresh(ranker.shared, ranker.tuning)
    for event in range(log.events):
        user, item = int(stream.user[event]), int(stream.item[event])
        valence, time = float(stream.valence[event]), int(stream.time[event])
        gone = np.array(had[user], np.int32)
        if wanted[event]:
            best = ranker.rank(recent, [user], np.array([time]), [gone], nothing, catalogue.ties, candidates)
            at = np.flatnonzero(best[0].rows == item)
            target = np.array([at[0] if len(at) else -1])
            made = explorer.pools(
                best, [np.arange(min(PLACES, len(best[0].rows)))], None, recent.events[[user]], ranker.shared
            )
            own = made.slates[0] == (target[0] if target[0] >= 0 else -2)
            alike = made.pool >= 0
            for way, weight in (("thompson", made.weight), ("uniform", alike / alike.sum())):
                way_made = replace(made, weight=weight)
                stays = [explorer.chances(way_made, made.slates[:, place]).sum() for place in last]
                found[way].append(np.append(explorer.chances(way_made, target)[0], len(last) - sum(stays)))
            found["none"].append(np.append(own, 0.0))
        ranker.teach(recent, user, item, valence, time, gone, into, 0)
        ranker.learn(into, 1)
        ranker.remember(recent, user, item, valence, time)
        had[user].append(item)
        if (event + 1) % 1_000 == 0 or event + 1 == log.events:
            done(event + 1, log.events)
    discount = 1 / np.log2(np.arange(PLACES) + 2)
    chances = {way: np.array(each).reshape(-1, PLACES + 1) for way, each in found.items()}
    return Cost(
        {way: each[:, :PLACES].sum(axis=1) for way, each in chances.items()},
        {way: each[:, :PLACES] @ discount for way, each in chances.items()},
        {way: each[:, PLACES] for way, each in chances.items()},
        targets >= log.events // 2,
    )
