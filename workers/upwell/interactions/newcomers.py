"""Slates in; the same out, with new items that are owed impressions on some last places. Then those impressions counted.

A user is given an item once, as far as the slates are kept that were published for the user: an impression is a user.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from upwell.interactions.profiles import Profiles
from upwell.ranking.newcomers import NOBODY, FirstImpressions
from upwell.ranking.ranker import Chosen
from upwell.ranking.slate import Caps, fits


class Newcomers:
    """Of one worker; what every worker has counted is in `impressions`."""

    def __init__(self, profiles: Profiles, impressions: FirstImpressions) -> None:
        self._profiles = profiles
        self._impressions = impressions
        self._owed: NDArray[np.int64] = np.zeros(0, np.int64)
        """[o] rows that were owed something when slates were last looked at."""

    def placed(
        self,
        places: int,
        slots: Sequence[int],
        slates: list[Chosen],
        gone: Sequence[NDArray[np.int32]],
        interests: NDArray[np.float32],
        shown: dict[str, int],
        caps: Caps | None = None,
    ) -> list[Chosen]:
        """The slates, some with a last place given away; the others are the objects that came in.

        Args:
            places: of a slate. The first is never given away.
            slots, slates, gone, interests: of u users, as `Ranker.rank` takes and makes them.
            shown: this batch's impressions by item, as `count` counts them.
            caps: that a place given away does not break either.
        """
        profiles, catalogue = self._profiles, self._profiles.catalogue
        few = profiles.ranker.few() if self._impressions.quota else np.zeros(0, np.int64)
        self._owed = owed = self._impressions.owed(few, catalogue.since)
        if not len(owed):
            return slates
        ids = [catalogue.ids[row] for row in owed.tolist()]
        # What this batch has placed is not learned yet.
        left = self._impressions.left(owed) - np.array([shown.get(item, 0) for item in ids])
        before = [self._seen(slot) for slot in slots]
        barred = []
        for slate, own, seen in zip(slates, gone, before, strict=True):
            held = np.isin(owed, slate.rows)
            if held.any() or places == 1:
                barred.append(np.arange(len(owed)))  # it has one, which earned its place
            else:
                bar = np.isin(owed, own) | np.array([item in seen for item in ids])
                if caps is not None:
                    bar |= ~fits(caps, slate.rows[: places - 1], owed)
                barred.append(np.flatnonzero(bar))
        chosen = self._impressions.choose(interests, catalogue.vectors[owed], left, barred)
        found = []
        for user, (slot, earned, at) in enumerate(zip(slots, slates, chosen.tolist(), strict=True)):
            slate = earned
            if at != NOBODY:
                slate = profiles.ranker.with_last(earned, places, profiles.recent, slot, int(owed[at]), interests[user])
            found.append(slate)
        return found

    def count(self, slots: Sequence[int], slates: Sequence[Chosen], shown: dict[str, int]) -> None:
        """Add the impressions of slates, as they are published, of what was owed any when they were `placed`."""
        for slot, slate in zip(slots, slates, strict=True) if len(self._owed) else ():
            for row in np.intersect1d(slate.rows, self._owed).tolist():
                if (item := self._profiles.catalogue.ids[row]) not in self._seen(slot):
                    shown[item] = shown.get(item, 0) + 1

    def _seen(self, slot: int) -> set[str]:
        return {item for slate in self._profiles.slates[slot] for item, _ in slate.items}
