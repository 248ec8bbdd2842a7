"""Which arm a user's content gets, a format and what its prompt tells: Thompson sampling, from feedback to contents.

What all users did is learned from `statistics` alone, in its order; what one user did comes with the profile. A user's
own rate is drawn around the drawn rate of all (a beta prior of `PRIOR` observations): little feedback follows the others,
much feedback follows the user. (Thompson 1933; Chapelle and Li, 2011, "An empirical evaluation of Thompson sampling".)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from upwell.ranking.profile import VANISHED

PRIOR: Final = 8.0
"""So many observations of the user's own weigh as much as all others' together."""

Reactions = dict[str, list[int]]
"""Arm to [times shown, times liked]."""


class Arms:
    """Sums of shown and liked contents by arm, halving with each half-life of event time."""

    def __init__(self, half_life_ms: float) -> None:
        self.half_life_ms = half_life_ms
        self.base = 0
        self.sums: dict[str, list[float]] = {}
        """Arm to [shown, liked], relative to 2^base half-lives."""

    def learn(self, name: str, time_ms: int, shown: int, liked: int) -> None:
        """Add counts at an event time, ms."""
        age = time_ms / self.half_life_ms
        if (newest := int(age // 1)) > self.base:
            factor = 2.0 ** max(self.base - newest, VANISHED)
            self.sums = {held: [factor * total for total in totals] for held, totals in self.sums.items()}
            self.base = newest
        weight = 2.0 ** max(age - self.base, VANISHED)
        totals = self.sums.setdefault(name, [0.0, 0.0])
        totals[0] += weight * shown
        totals[1] += weight * liked

    def choose(self, names: Sequence[str], own: Mapping[str, Sequence[int]], chance: np.random.Generator) -> str:
        """One of `names`, as often as it is likely to be the one that this user likes best.

        Args:
            own: the user's reactions.
            chance: seeded by what the choice is for, so that a replay makes the same one.
        """
        if len(names) == 1:
            return names[0]
        drawn = [self._draw(name, own.get(name, (0, 0)), chance) for name in names]
        return names[int(np.argmax(drawn))]

    def _draw(self, name: str, own: Sequence[int], chance: np.random.Generator) -> float:
        shown, liked = self.sums.get(name, (0.0, 0.0))
        rate = chance.beta(1 + liked, 1 + max(0.0, shown - liked))
        return float(chance.beta(1e-3 + PRIOR * rate + own[1], 1e-3 + PRIOR * (1 - rate) + max(0, own[0] - own[1])))


def react(reactions: Reactions, name: str, weight: float, *, impression: bool) -> tuple[int, int]:
    """Add one event about a content to a user's reactions, in place; returns what it added to (shown, liked).

    An impression is a showing; a liking counts as one; a rejection counts as a showing without it, so it weighs double
    where the impression was reported too.
    """
    added = (int(impression or weight < 0), int(weight > 0))
    if any(added):
        held = reactions.setdefault(name, [0, 0])
        held[0] += added[0]
        held[1] += added[1]
    return added
