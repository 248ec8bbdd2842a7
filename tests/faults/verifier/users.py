"""Each distinct event applied exactly once per user: counts, numbering of rankings, profile vectors.

The set of known events is unbounded. A repeat so late that the product's dedupe window may have forgotten it is counted
apart: it may count again, and is no violation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from faults.verifier.contract import REQUEST, weight
from faults.verifier.records import Findings, Place

WINDOW_EVENTS, WINDOW_MS = 512, 600_000
"""What the dedupe window holds at least: so many events, and all of so much log time."""
COSINE, NORM = 1e-6, 1e-4
"""How far a stored vector may be from the recomputed one: 1 - cosine, and relative difference of the lengths."""
UNREAD_MS, MOST_WAITING = 30_000, 2
"""A vector is read by a worker at most so long after it was published; so many items of a user may wait at the same time."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A row of `profiles`. `vector`: the sum relative to 2^base, base in units of the half-life."""

    user: str
    generation: int
    version: int
    revision: int
    event_time: int
    base: int
    half_life_ms: float
    vector: list[float]


@dataclass(slots=True)
class User:
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Event id to its number among the user's distinct events and its log time."""
    items: dict[str, list[tuple[int, float, int]]] = field(default_factory=dict)
    """Item to (event time, weight, log time) of its events."""
    event_time: int = 0
    forgotten: int = 0
    """Repeats from beyond the dedupe window."""
    last: Place | None = None
    """Of the newest event."""
    number: tuple[int, int, int] = (0, 0, -1)
    """(generation, version, revision) of the newest ranking."""
    ranked: Place | None = None


class Users:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.users: dict[str, User] = {}
        self.events = self.repeats = self.rankings = self.compared = self.waiting = 0
        """Distinct events, repeats of one, rankings, vectors compared, and those of them that wait for the user's next event:
        an item's vector came while no worker had the user in its cache."""
        self.known_since: dict[str, int] = {}
        """Item to the log time of its first record in `item-features`."""

    def event(self, place: Place, logged: int, event: dict[str, Any]) -> bool:
        """The next valid record of the user's log; True where it is a distinct event."""
        user = self.users.setdefault(event["user_id"], User())
        if event["type"] == REQUEST:
            return False
        count = len(user.seen)
        if (before := user.seen.get(event["event_id"])) is not None:
            self.repeats += 1
            number, time = before
            if count - number >= WINDOW_EVENTS and logged - time > WINDOW_MS:
                user.forgotten += 1
            return False
        user.seen[event["event_id"]] = (count, logged)
        user.last = place
        user.event_time = max(user.event_time, event["ts"])
        user.items.setdefault(event["item_id"], []).append((event["ts"], weight(event), logged))
        self.events += 1
        return True

    def ranking(self, place: Place, ranking: dict[str, Any]) -> None:
        """The user's next ranking: (generation, version, revision) strictly increases, and at revision 0
        version = previous version + events."""
        self.rankings += 1
        user = self.users.setdefault(ranking["user_id"], User())
        new = (ranking["generation"], ranking["version"], ranking["revision"])
        old, events = user.number, ranking["events"]
        before = old[1] if new[0] == old[0] else 0
        if new <= old:
            self.findings.add("numbering", place, f"{ranking['user_id']}: {new} follows {old}", doubled=max(1, events))
            return
        counted = before + events
        if new[1] > counted:
            words = f"{ranking['user_id']}: version {new[1]} with {events} events follows version {before}"
            self.findings.add("numbering", place, words, lost=new[1] - counted)
        elif new[1] < counted:
            words = f"{ranking['user_id']}: version {new[1]} with {events} events follows version {before}"
            self.findings.add("numbering", place, words, doubled=counted - new[1])
        user.number, user.ranked = new, place

    def finish(self, profiles: Iterable[Profile], vector_of: Callable[[str], list[float] | None]) -> None:
        """Compare with what is stored.

        Args:
            vector_of: an item's vector, None where it has none.
        """
        stored = {profile.user: profile for profile in profiles}
        for name in stored.keys() - self.users.keys():
            self.findings.add("counted", None, f"{name}: a profile of a user who has no events", doubled=1)
        for name, user in self.users.items():
            wanted, published = len(user.seen), user.number[1]
            profile = stored.get(name)
            kept = profile.version if profile is not None else 0
            for what, found, place in (("published", published, user.ranked), ("stored", kept, user.last)):
                words = f"{name}: {wanted} distinct events, version {found} {what}"
                if found < wanted:
                    self.findings.add("counted", place, words, lost=wanted - found)
                elif found > wanted + user.forgotten:
                    self.findings.add("counted", place, words, doubled=found - wanted - user.forgotten)
            if profile is not None and kept == wanted and not user.forgotten:
                self._compare(user, profile, vector_of)

    def _compare(self, user: User, profile: Profile, vector_of: Callable[[str], list[float] | None]) -> None:
        self.compared += 1
        if user.seen and profile.event_time != user.event_time:
            words = f"{profile.user}: event time {profile.event_time} stored, {user.event_time} is the latest"
            self.findings.add("profile", user.last, words)
        if not (words := _difference(self._sum(user, profile, vector_of), profile.vector)):
            return
        early = [item for item, events in user.items.items() if any(self._early(item, event[2]) for event in events)]
        for count in range(1, MOST_WAITING + 1):
            for left_out in itertools.combinations(early, count):
                if not _difference(self._sum(user, profile, vector_of, left_out), profile.vector):
                    self.waiting += 1
                    return
        self.findings.add("profile", user.last, f"{profile.user}: {words}")

    def _early(self, item: str, logged: int) -> bool:
        """Whether the event may have been applied before a worker knew the item's vector."""
        return logged < self.known_since.get(item, 0) + UNREAD_MS

    def _sum(
        self,
        user: User,
        profile: Profile,
        vector_of: Callable[[str], list[float] | None],
        waiting: Iterable[str] = (),
    ) -> list[float]:
        """Item vectors weighted by event type and by 2^(event time / half-life), relative to 2^base; without the early
        events of the items that are `waiting`."""
        total: list[float] = []
        for item, events in user.items.items():
            vector = vector_of(item)
            if vector is None:
                continue
            factor = sum(
                weight * 2.0 ** (time / profile.half_life_ms - profile.base)
                for time, weight, logged in events
                if item not in waiting or not self._early(item, logged)
            )
            total = (
                [factor * value for value in vector]
                if not total
                else [held + factor * value for held, value in zip(total, vector, strict=True)]
            )
        return total


def _difference(wanted: list[float], vector: list[float]) -> str:
    """How a stored vector differs from the recomputed one, in words; empty where it does not."""
    length, stored = math.hypot(*wanted), math.hypot(*vector)
    if not length:
        return f"length {stored} stored, 0 recomputed" if stored > 1e-6 else ""
    cosine = sum(a * b for a, b in zip(wanted, vector, strict=False)) / (length * stored) if stored else 0.0
    if len(wanted) == len(vector) and cosine >= 1 - COSINE and abs(stored / length - 1) <= NORM:
        return ""
    return f"cosine {cosine:.9f}, length {stored:.6g} stored, {length:.6g} recomputed"
