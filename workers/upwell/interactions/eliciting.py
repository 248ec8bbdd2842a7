"""New users who are to be asked what they like in; slates of items that tell it, instead of the usual ones, out."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Interaction, RankedItem, Reason
from upwell.interactions.profiles import Profiles
from upwell.interactions.rulebook import Rulebook
from upwell.ranking.elicitation import telling
from upwell.ranking.reasons import Kind, Why, worded
from upwell.ranking.slate import fits

SPARE: Final = 4
"""Items are looked for so many times as often as there are places: some are not for every user."""
ANEW_S: Final = 10.0
"""What is asked about is looked up this often."""


def wanted(event: Interaction) -> bool:
    """Whether a rank request asks for it."""
    return event.context is not None and event.context.get("elicit") is True


class Eliciting:
    """Of one worker. Nothing is computed before somebody asks for it."""

    def __init__(self, profiles: Profiles, rulebook: Rulebook) -> None:
        self._profiles = profiles
        self._rulebook = rulebook
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._count = 0
        self._anew_at = 0.0

    def items(self, slot: int, places: int) -> list[RankedItem]:
        """What to ask a user about, the most telling first.

        None of a user who has told something, by an event that is a preference; none while nothing is known of any items.
        """
        if self._profiles.recent.events[slot]:
            return []
        profiles, ranker, force = self._profiles, self._profiles.ranker, self._rulebook.in_force
        events = profiles.histories[slot].events()
        rows = self._asked(SPARE * places)
        gone = self._rulebook.gone(events, int(profiles.event_times[slot]))
        rows = rows[ranker.shared.live[rows] & ~np.isin(rows, gone)]
        if force is not None and len(force.caps.most):
            kept: list[int] = []
            for row in rows.tolist():
                if fits(force.caps, np.array(kept, np.int64), np.array([row]))[0]:
                    kept.append(row)
            rows = np.array(kept, np.int64)
        rows = rows[:places]
        alone = ranker.alone(0, rows, np.zeros(profiles.catalogue.dimension, np.float32))
        reason = Reason(Kind.ASKED, 0.0, worded(Why(Kind.ASKED, 0.0)))
        ids = profiles.catalogue.ids
        return [
            RankedItem(ids[row], score, 1.0, [reason])
            for row, score in zip(rows.tolist(), alone.scores.tolist(), strict=True)
        ]

    def _asked(self, count: int) -> NDArray[np.int64]:
        """[n] rows, the most telling first; the same for everybody, and count of them where there are as many."""
        if count <= self._count and time.monotonic() < self._anew_at:
            return self._rows
        self._profiles.ranker.fit()
        rows = telling(self._profiles.ranker, count)
        if len(rows):
            self._rows, self._count, self._anew_at = rows, count, time.monotonic() + ANEW_S
        return rows
