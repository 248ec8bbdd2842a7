"""A log in; whether the events that reasons name had brought the items up, out: a counterfactual check.

The log is replayed through the ranker that a worker holds. At events spread evenly over it the user's slate is made, and
one item's reason that names an event is drawn. Then that event is taken out of the user's history and the user is
ranked again: the item's score must be lower than before, or it must be no candidate any more. The mix stays that of the
history's length with the event: scores of two mixes are on two scales, and cannot be compared.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog
from upwell.ranking import learner
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.learner import Recent
from upwell.ranking.ranker import KINDS, Chosen, Ranker
from upwell.ranking.reasons import NOBODY, Kind

NOTHING: Final = "\0nothing"
"""An item that nobody knows: it stands for what did not happen."""
PLACES: Final = 10
LEAST_SHARE: Final = 0.01
MOST_TRIES: Final = 4
"""Slates looked at for each reason: the first events of users have none."""


Event = tuple[int, float, int]
"""Row, weight, time in ms."""


def check(log: RankingLog, count: int, seed: int = 1) -> dict[str, Any]:
    """Draw `count` reasons that name an event, unpicked, and take their events away.

    Returns:
        checked, hold, share: how many, of how many the item fell, and their share; median_fall of the score.
    """
    rng = np.random.default_rng(seed)
    looked = set(
        np.linspace(log.events // 50, log.events - 1, min(MOST_TRIES * count, log.events)).astype(int).tolist()
    )
    ranker, catalogue = _ranker(log)
    recent, into, none = ranker.users(log.users), learner.lessons(1, ranker.tuning), np.zeros((1, 1), np.float32)
    stream, histories = log.stream, [list[Event]() for _ in range(log.users)]
    found: list[float] = []
    skip = 0
    for event in range(log.events):
        user, item = int(stream.user[event]), int(stream.item[event])
        history = histories[user]
        gone = np.array([row for row, _, _ in history], np.int32)
        if event in looked:
            skip -= 1
            if skip < 0 and len(found) < count:
                (slate,) = ranker.rank(
                    recent, [user], stream.time[event : event + 1], [gone], none, catalogue.ties, PLACES
                )
                fall = _fall(ranker, catalogue, recent, user, history, int(stream.time[event]), gone, slate, rng)
                if fall is not None:
                    found.append(fall)
                    skip = _rest(looked, event, count - len(found))
        weight, time = float(stream.valence[event]), int(stream.time[event])
        ranker.teach(recent, user, item, weight, time, gone, into, 0)
        ranker.learn(into, 1)
        ranker.remember(recent, user, item, weight, time)
        history.append((item, weight, time))
    hold = sum(fall > 0 for fall in found)
    return {
        "checked": len(found),
        "hold": hold,
        "share": round(hold / len(found), 4) if found else None,
        "median_fall": round(float(np.median(found)), 3) if found else None,
    }


def _rest(looked: set[int], event: int, wanted: int) -> int:
    """How many of the looked-at events to pass over, so that the reasons are spread over the whole log."""
    left = sum(1 for at in looked if at > event)
    return max(left // max(wanted, 1) - 1, 0)


def _ranker(log: RankingLog) -> tuple[Ranker, Catalogue]:
    catalogue = Catalogue(len(log.items) + 1)
    for row, item in enumerate(log.items):
        names = [log.categories[number - 1] for number in log.category[row] if number]
        catalogue.put(item, np.ones(1, np.float32), item, names, 1.0)
        if not log.live[row]:
            catalogue.remove(item)
    catalogue.row(NOTHING)
    ranker = Ranker(catalogue, content=0.0)
    ranker.fit()
    return ranker, catalogue


def _fall(
    ranker: Ranker,
    catalogue: Catalogue,
    recent: Recent,
    user: int,
    history: list[Event],
    now: int,
    gone: NDArray[np.int32],
    slate: Chosen,
    rng: np.random.Generator,
) -> float | None:
    """By how much the score of a drawn item falls without the event that its reason names; infinite where it is no
    candidate any more, None where no item of the slate names any."""
    rows, times = ranker.evidence(recent, user, now, slate.rows)
    similar = [scorer for scorer, kind in enumerate(KINDS) if kind is Kind.SIMILAR]
    shares = slate.contributions[:, similar].sum(axis=1)
    named = np.flatnonzero((rows != NOBODY) & (shares > LEAST_SHARE))
    if not len(named):
        return None
    at = int(rng.choice(named))
    event = (int(rows[at]), int(times[at]))
    without = _recent(ranker, [(catalogue.row(NOTHING), 0.0, 0), *(e for e in history if (e[0], e[2]) != event)])
    (again,) = ranker.rank(
        without, [0], np.array([now]), [gone], np.zeros((1, 1), np.float32), catalogue.ties, len(catalogue)
    )
    place = np.flatnonzero(again.rows == slate.rows[at])
    return float(slate.scores[at]) - (float(again.scores[place[0]]) if len(place) else -np.inf)


def _recent(ranker: Ranker, history: list[Event]) -> Recent:
    """A user's last events, in slot 0."""
    found = ranker.users(1)
    for row, weight, time in history:
        ranker.remember(found, 0, row, weight, time)
    return found
