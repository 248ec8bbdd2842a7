"""What events say of who their user is, in; the segments that profiles keep, and what they add to new users' scores, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.interactions.profiles import Profiles
from upwell.ranking.ranker import Raised
from upwell.ranking.segments import EVERYBODY, Segments
from upwell.settings import ColdStart

LONGEST: Final = 64
"""Characters of a value: what is longer is free text, and no segment."""


def segment(attribute: str, value: object) -> str:
    """The segment of users with this value of an attribute; empty where the value is none: missing, a list, a fraction, too long.

    >>> [segment("country", value) for value in (" de ", 7, True, 0.5, None, "", ["de"])]
    ['country=de', 'country=7', 'country=true', '', '', '', '']
    """
    if isinstance(value, bool | int):
        value = str(value).lower()
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable() or not (value := value.strip()):
        return ""
    return f"{attribute}={value}"


def worded(name: str) -> str:
    """A segment as a person reads it.

    >>> worded("country=de")
    'country de'
    """
    return name.replace("=", " ", 1)


class SegmentPriors:
    """Of one worker; what every worker has counted is in `learned`. Without `cold_start.segments` nothing is kept or asked."""

    def __init__(self, settings: ColdStart, profiles: Profiles, learned: Segments) -> None:
        self._attributes = tuple(dict.fromkeys(settings.segments))
        self._events = settings.segment_events
        self._weight = np.float32(settings.segment_weight)
        self._profiles = profiles
        self._learned = learned

    def take(self, slot: int, context: Mapping[str, Any] | None) -> None:
        """Keep what an event says of its user: of each attribute the last value that is one, in log order."""
        if not self._attributes or not context:
            return
        held = dict(name.partition("=")[::2] for name in self._profiles.segments[slot])
        told = ((name, segment(name, context.get(name))) for name in self._attributes)
        self._profiles.segments[slot] = tuple(
            now or f"{name}={held[name]}" for name, now in told if now or name in held
        )

    def of(self, slot: int) -> tuple[str, ...]:
        """The user's segments, of the attributes that are configured."""
        return tuple(name for name in self._profiles.segments[slot] if name.partition("=")[0] in self._attributes)

    def counted(self, slot: int) -> tuple[str, ...]:
        """The segments that a liking of this user counts for."""
        return (EVERYBODY, *self.of(slot)) if self._attributes else ()

    def raised(self, slots: Sequence[int]) -> Raised | None:
        """What new users' segments add to items' scores; None where they add nothing to anybody's."""
        if not self._attributes or not self._learned.total:
            return None
        lifts: dict[tuple[str, ...], tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        rows, lift = [], []
        for slot in slots:
            own = self.of(slot) if (share := self._share(slot)) else ()
            if own not in lifts:
                lifts[own] = self._learned.lift(own)
            rows.append(lifts[own][0])
            lift.append(share * lifts[own][1])
        begins = np.cumsum([0, *map(len, rows)])
        return Raised(np.concatenate(rows), np.concatenate(lift), begins) if begins[-1] else None

    def words(self, slot: int) -> Callable[[int], str] | None:
        """Says of an item's row with which of the user's segments it is popular, empty: with none; None: there are none."""
        if not (own := self.of(slot)):
            return None

        def told(row: int) -> str:
            return worded(name) if (name := self._learned.likelier(own, row)) else ""

        return told

    def _share(self, slot: int) -> np.float32:
        """What segments count for a user: all before the first event, less with every event, nothing from `segment_events` on."""
        left = max(self._events - int(self._profiles.recent.events[slot]), 0)
        return self._weight * np.float32(left / self._events)
