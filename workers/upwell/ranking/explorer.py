"""Users' candidates and the slates made of them in; which candidates are drawn to the last positions, and how likely that was, out.

What is believed of a candidate: everybody's like-rate as a posterior of counted events and likes, moved by all else that its
score says of this user and it (`Chosen.contributions`), widened by how little is known of the user. Positions, weights and
propensities are those of `exploration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.exploration import (
    MARGINALS,
    Budget,
    Doubt,
    Explored,
    Floats,
    Rows,
    beliefs,
    explore,
    pools,
    posterior,
    weights,
)
from upwell.ranking.learner import SCORERS, Shared
from upwell.ranking.ranker import Chosen

OFFERED: Final = 14
"""Candidates beside the slate's own that may be drawn: those with the highest upper confidence bounds."""
WIDTH: Final = 2.0
"""... which lie so many standard deviations above the mean."""
SLOPE: Final = np.float32(0.5)
"""Scores are log odds; the scale of `posterior` grows by sqrt(p (1 - p)) a unit of them, which is at most this."""
_LIKED: Final = SCORERS.index("liked")


@dataclass(frozen=True, slots=True)
class Pools:
    """u users; a candidate's number is `width` times its user's place plus its index among the user's candidates."""

    slates: Rows
    """[u, k] numbers, best first; -1 fills."""
    pool: Rows
    """[u, n] numbers of what may stand on the last positions; -1 fills. The slate's own come first."""
    weight: Floats
    """[u, n], rows sum to 1."""
    able: NDArray[np.bool_]
    """[u] users whose slate is full, and who have other candidates: the others' slates stay as they are."""
    width: int


class Explorer:
    """How slates of so many places are explored. The first place is never drawn."""

    def __init__(self, budget: Budget, places: int, doubt: Doubt = Doubt()) -> None:
        """
        Args:
            doubt: its `rate` is learned, and not looked at.
        """
        self.budget = replace(budget, positions=min(budget.positions, places - 1))
        self._places = places
        self._doubt = doubt

    @property
    def on(self) -> bool:
        return self.budget.share > 0 and self.budget.positions > 0

    def pools(
        self,
        candidates: Sequence[Chosen],
        slates: Sequence[NDArray[np.int64]],
        allowed: Sequence[NDArray[np.bool_]] | None,
        events: NDArray[np.int64],
        shared: Shared,
    ) -> Pools:
        """What may be drawn for each of u >= 1 users, and with which weights.

        Args:
            slates: per user [k] int64 indices of candidates, best place first.
            allowed: per user and candidate, whether it may be drawn; None: all may.
            events: [u] of each user's history.
            shared: what is learned of everybody: counts and likes of the candidates' rows.
        """
        users, width = len(candidates), max(1, *(len(one.rows) for one in candidates))
        rows, lean = np.zeros((users, width), np.int64), np.zeros((users, width), np.float32)
        free, own = np.zeros((users, width), bool), np.full((users, self._places), -1, np.int64)
        for user, (one, slate) in enumerate(zip(candidates, slates, strict=True)):
            count = len(one.rows)
            rows[user, :count] = one.rows
            lean[user, :count] = one.contributions.sum(axis=1) - one.contributions[:, _LIKED]
            free[user, :count] = True if allowed is None else allowed[user]
            free[user, slate] = False
            own[user, : len(slate)] = user * width + slate
        counts = float(shared.counts.sum())
        known = replace(self._doubt, rate=float(shared.likes.sum()) / counts if counts else self._doubt.rate)
        everybody = posterior(shared.likes[rows].ravel(), shared.counts[rows].ravel(), known)
        numbers = np.arange(users * width).reshape(users, width)
        mean, spread = beliefs(everybody, numbers, SLOPE * lean, events, known)
        bound = np.where(free, mean + np.float32(WIDTH) * spread, -np.inf)
        best = np.argsort(-bound, axis=1, kind="stable")[:, :OFFERED]
        offered = np.where(np.take_along_axis(free, best, axis=1), np.take_along_axis(numbers, best, axis=1), -1)
        pool = pools(own, offered, self.budget.positions)
        there = pool >= 0
        at = np.maximum(pool, 0)
        weight = weights(mean.ravel()[at], spread.ravel()[at], there, self.budget.floor)
        return Pools(own, pool, weight, (own >= 0).all(axis=1) & free.any(axis=1), width)

    def draw(self, made: Pools, keys: NDArray[np.uint64], versions: NDArray[np.uint64]) -> Explored:
        """Fill the last positions of some slates; `rows` are indices of the user's candidates, -1 where there is no item.

        Args:
            keys, versions: [u] uint64, as `explore` takes them: they decide what is drawn, and nothing else does.
        """
        slates = np.where(made.able[:, None], made.slates, -1)
        found = explore(slates, made.pool, made.weight, keys, versions, self.budget)
        rows = np.where(made.able[:, None], found.rows, made.slates)
        return replace(found, rows=np.where(rows >= 0, rows % made.width, -1))

    def chances(self, made: Pools, candidate: NDArray[np.int64]) -> Floats:
        """[u, k] probability that each position of the user's slate will hold a candidate.

        Args:
            candidate: [u] index among the user's candidates; -1 for none of them.
        """
        number = np.where(candidate >= 0, np.arange(len(candidate)) * made.width + candidate, -2)
        own: Floats = (made.slates == number[:, None]).astype(np.float64)
        able, last = made.able, self._places - self.budget.positions
        inside = made.pool == number[:, None]
        drawn = np.zeros((len(own), self.budget.positions))
        some = np.flatnonzero(inside.any(axis=1) & able)
        for place in range(self.budget.positions):
            drawn[some, place] = MARGINALS[place](made.weight[some], inside[some].argmax(axis=1))
        share = self.budget.share
        own[able, last:] = (1 - share) * own[able, last:] + share * drawn[able]
        return own
