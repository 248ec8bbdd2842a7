"""Slates that are ready but for chance in; the same out, some with last places drawn from the user's other candidates.

What is drawn is a function of the user and the ranking's number: a replay draws the same. A slate that carries a new item
because it is owed a place is not drawn for, so such places are of a rule, with propensity 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from upwell.events.hashing import key64
from upwell.interactions.profiles import Profiles
from upwell.ranking.exploration import Budget
from upwell.ranking.explorer import Explorer
from upwell.ranking.ranker import Chosen
from upwell.ranking.slate import Caps, fits
from upwell.settings import Exploration
from upwell.telemetry import metrics


class Exploring:
    """Of one worker. Where it is off nothing is computed."""

    def __init__(self, settings: Exploration, profiles: Profiles) -> None:
        self._budget = Budget(settings.share, settings.positions, settings.floor)
        self._profiles = profiles

    def drawn(
        self,
        places: int,
        users: Sequence[int],
        slots: Sequence[int],
        candidates: Sequence[Chosen],
        slates: Sequence[NDArray[np.int64]],
        caps: Caps | None = None,
    ) -> Iterator[tuple[int, tuple[NDArray[np.int64], NDArray[np.float64]]]]:
        """Slates as they are to be published.

        Args:
            places: of a slate.
            users: which of the users of `slots` may be drawn for.
            slots, candidates: of all users.
            slates: per user [k] int64 indices of candidates, best place first.
            caps: that no draw breaks.

        Returns:
            Of each of `users`, where anything is drawn at all: [k] int64 indices of candidates, and [k] float64 propensities.
        """
        explorer = Explorer(self._budget, places)
        if not users or not explorer.on:
            return
        profiles, at = self._profiles, [slots[user] for user in users]
        candidates, slates = [candidates[user] for user in users], [slates[user] for user in users]
        allowed = None
        if caps is not None and len(caps.most):
            # All drawn places may go to any of these, so that whatever is drawn together breaks no cap.
            positions = explorer.budget.positions
            allowed = [
                fits(caps, one.rows[slate[: places - positions]], one.rows, positions)
                for one, slate in zip(candidates, slates, strict=True)
            ]
        made = explorer.pools(candidates, slates, allowed, profiles.recent.events[at], profiles.ranker.shared)
        found = explorer.draw(
            made,
            np.array([key64(profiles.user_ids[slot]) for slot in at], np.uint64),
            np.array([self._number(slot) for slot in at], np.uint64),
        )
        metrics.RANKING_EXPLORED.inc(int(found.drawn.sum()))
        for user, rows, propensity, slate in zip(users, found.rows, found.propensity, slates, strict=True):
            yield user, (rows[: len(slate)], propensity[: len(slate)])

    def _number(self, slot: int) -> int:
        profiles = self._profiles
        return key64(f"{profiles.generations[slot]} {profiles.versions[slot]} {profiles.revisions[slot]}")
