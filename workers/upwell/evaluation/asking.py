"""What asking a new user is worth: answers to ten items that are asked about, against answers to the ten most popular ones.

The first half of a log is learned. Each user who comes in the second half has answered for those of the items asked about that
the log says anything of, as it says it, and is then ranked once. What counts is the rest that the user likes in the second
half; neither what is asked about nor what is popular is a candidate, so that both are judged by the same items.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.cold_users import bare_ranker
from upwell.evaluation.ranking import PLACES
from upwell.evaluation.ranking_log import RankingLog
from upwell.ranking import learner
from upwell.ranking.elicitation import telling
from upwell.ranking.ranker import Ranker

ASKED: Final = 10
_NONE: Final = np.zeros((1, 1), np.float32)


def compare(log: RankingLog) -> dict[str, Any]:
    """Precision at ten places by what was asked, ± its standard error, and of the paired difference."""
    ranker, stream, half = bare_ranker(log), log.stream, log.events // 2
    recent, into = ranker.users(log.users), learner.lessons(1, ranker.tuning)
    had = [list[int]() for _ in range(log.users)]
    for event in range(half):
        user, item = int(stream.user[event]), int(stream.item[event])
        valence, time = float(stream.valence[event]), int(stream.time[event])
        ranker.teach(recent, user, item, valence, time, np.array(had[user], np.int32), into, 0)
        ranker.learn(into, 1)
        ranker.remember(recent, user, item, valence, time)
        had[user].append(item)
    counts = np.where(ranker.shared.live, ranker.shared.counts, -1)[: len(log.items)]
    popular = np.lexsort((ranker.catalogue.ties[: len(log.items)], -counts))[:ASKED]
    sets = {"elicited": telling(ranker, ASKED), "most_popular": popular}
    barred = np.unique(np.concatenate(list(sets.values()))).astype(np.int32)
    answers: dict[str, list[tuple[int, float]]] = {name: [] for name in sets}
    users = 0
    for user in sorted(set(stream.user[half:].tolist()) - set(stream.user[:half].tolist())):
        own = half + np.flatnonzero(stream.user[half:] == user)
        likes = np.setdiff1d(stream.item[own][stream.target[own]], barred)
        if len(likes):
            users += 1
            told = dict(zip(stream.item[own].tolist(), stream.valence[own].tolist(), strict=True))
            for name, asked in sets.items():
                answers[name].append(_answered(ranker, asked, told, likes, barred, int(stream.time[half])))
    found: dict[str, Any] = {"users": users}
    for name, each in answers.items():
        precision = np.array([share for _, share in each])
        found[name] = {"known": _mean(np.array([known for known, _ in each]), 1), **_with_error(precision)}
    apart = np.array([a[1] - b[1] for a, b in zip(*answers.values(), strict=True)])
    return {**found, "difference": _with_error(apart)}


def _answered(
    ranker: Ranker,
    asked: NDArray[np.int64],
    told: dict[int, float],
    likes: NDArray[np.int32],
    barred: NDArray[np.int32],
    now: int,
) -> tuple[int, float]:
    """How many of the asked items a user says anything of, and the precision of the ranking that follows."""
    recent = ranker.users(1)
    answered = [row for row in asked.tolist() if row in told]
    for row in answered:
        ranker.remember(recent, 0, row, told[row], now)
    (slate,) = ranker.rank(recent, [0], np.array([now]), [barred], _NONE, ranker.catalogue.ties, PLACES)
    return len(answered), float(np.isin(slate.rows, likes).sum() / PLACES)


def _with_error(values: NDArray[np.float64]) -> dict[str, float | None]:
    error = values / max(len(values), 1) ** 0.5
    return {
        "precision_at_10": _mean(values, 4),
        "standard_error": round(float(error.std()), 4) if len(values) else None,
    }


def _mean(values: NDArray[Any], digits: int) -> float | None:
    return round(float(values.mean()), digits) if len(values) else None
