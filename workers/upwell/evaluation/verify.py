"""What came in and what was published, as an outsider read it, in; lost and duplicated events and latencies out. Pure.

Shares nothing with the workers: it counts the input plainly, checks the numbering that every reader may rely on, and
compares both with the versions in the database.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from upwell.events.contracts import ControlType
from upwell.events.hashing import key64

Int64 = npt.NDArray[np.int64]
CONTROL = frozenset(control.value for control in ControlType)
_KEPT_PROBLEMS = 20


@dataclass(slots=True)
class Numbering:
    """Checks that (generation, version, revision) strictly increases per user, and that at revision 0 the version is
    the previous version + events. A gap is lost events, a repeat or an overlap is duplicated ones."""

    lost: int = 0
    duplicated: int = 0
    rankings: int = 0
    last: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """User to generation, version, revision of the newest ranking."""
    problems: list[str] = field(default_factory=list)
    """The first of what is wrong, in words."""

    def add(self, user: str, generation: int, version: int, revision: int, events: int) -> None:
        """Take the user's next ranking, in log order."""
        self.rankings += 1
        new = (generation, version, revision)
        old = self.last.get(user, (generation, 0, -1))
        if new <= old:
            self.duplicated += max(1, events)
            self._say(f"user {user}: {new} follows {old}")
            return
        before = old[1] if generation == old[0] else 0
        counted = before + events
        if version > counted:
            self.lost += version - counted
            self._say(f"user {user}: version {version} with {events} events follows version {before}")
        elif version < counted:
            self.duplicated += counted - version
            self._say(f"user {user}: version {version} with {events} events follows version {before}")
        elif revision > 0 and events:
            self.duplicated += events
            self._say(f"user {user}: a re-issue of version {version} claims {events} events")
        self.last[user] = new

    def versions(self) -> dict[str, int]:
        """User to newest version."""
        return {user: version for user, (_, version, _) in self.last.items()}

    def _say(self, problem: str) -> None:
        if len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append(problem)


class Observed:
    """Input events and rankings as columns, in the order in which they were read. Times are Unix ms."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.names: list[str] = []
        self._event = {name: array("q") for name in ("user", "nth", "appended", "partition", "offset")}
        self._hash = array("Q")
        self._counts: list[int] = []
        self._ranking = {name: array("q") for name in ("user", "version", "received")}

    @property
    def events(self) -> int:
        """Events read that count: duplicates included, control records not."""
        return len(self._hash)

    def event(self, user: str, event_id: str, kind: str, appended: int, partition: int, offset: int) -> None:
        """One record of the input that could be decoded, at its place in the log."""
        if kind in CONTROL:
            return
        number = self._user(user)
        self._counts[number] += 1
        column = self._event
        column["user"].append(number)
        column["nth"].append(self._counts[number])
        column["appended"].append(appended)
        column["partition"].append(partition)
        column["offset"].append(offset)
        self._hash.append(key64(event_id))

    def ranking(self, user: str, version: int, received: int) -> None:
        """One ranking, when it could be read."""
        column = self._ranking
        column["user"].append(self._user(user))
        column["version"].append(version)
        column["received"].append(received)

    def _user(self, name: str) -> int:
        number = self.users.get(name)
        if number is None:
            number = self.users[name] = len(self.names)
            self.names.append(name)
            self._counts.append(0)
        return number

    def counted(self, dead: Iterable[tuple[int, int]] = ()) -> tuple[dict[str, int], int]:
        """Distinct events per user, and how many records repeat one; `dead`: (partition, offset) of dead letters."""
        users, _, appended = self._distinct(dead)
        counts = np.bincount(users, minlength=len(self.names))
        repeats = self.events - len(appended) - self._dead(dead).sum()
        return {self.names[i]: int(counts[i]) for i in np.flatnonzero(counts)}, int(repeats)

    def latencies(
        self, dead: Iterable[tuple[int, int]] = (), *, since_ms: int = 0, until_ms: int | None = None
    ) -> Int64:
        """Per distinct event that was appended in that time: ms from its append to the receipt of the first ranking that
        holds it; -1 where none."""
        users, nth, appended = self._distinct(dead)
        waits = self._waits(users, nth, appended, *self._ranked())
        return waits[
            (appended >= since_ms) & (appended < (until_ms if until_ms is not None else np.iinfo(np.int64).max))
        ]

    def recent_latencies(self) -> Int64:
        """About the last some thousand events that have a ranking, cheaply: repeats and dead letters of the same user
        are not looked at. More of them where the rankings are far behind."""
        for events in (2_000, 50_000):
            # Slices are copies: numpy must not hold the memory of an array that the reading thread appends to. The
            # column that is appended last says how far all of them are whole.
            ends = len(self._hash), len(self._ranking["received"])
            came, told = (slice(max(0, end - events), end) for end in ends)
            users, nth, appended = (np.array(self._event[name][came]) for name in ("user", "nth", "appended"))
            by, version, received = (np.array(self._ranking[name][told]) for name in ("user", "version", "received"))
            waits = self._waits(users, nth, appended, by, version, received)
            if (waits >= 0).any():
                break
        return waits[waits >= 0]

    def _distinct(self, dead: Iterable[tuple[int, int]]) -> tuple[Int64, Int64, Int64]:
        """User, place among the user's distinct events (from 1), append time; in log order per user."""
        alive = ~self._dead(dead)
        users = np.array(self._event["user"])[alive]
        hashes = np.array(self._hash)[alive]
        appended = np.array(self._event["appended"])[alive]
        pairs = np.stack([users.astype(np.uint64), hashes], axis=1)
        _, first = np.unique(pairs, axis=0, return_index=True) if len(pairs) else (None, np.zeros(0, np.int64))
        first = np.sort(first)
        users, appended = users[first], appended[first]
        order = np.argsort(users, kind="stable")
        users, appended = users[order], appended[order]
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        sizes = np.diff(np.append(starts, len(users)))
        nth = np.arange(len(users)) - np.repeat(starts, sizes) + 1
        return users, nth, appended

    def _dead(self, dead: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
        places = set(dead)
        if not places:
            return np.zeros(self.events, bool)
        here = zip(self._event["partition"], self._event["offset"], strict=True)
        return np.fromiter((place in places for place in here), bool, self.events)

    def _ranked(self) -> tuple[Int64, Int64, Int64]:
        user, version, received = (np.array(self._ranking[name]) for name in ("user", "version", "received"))
        return user, version, received

    @staticmethod
    def _waits(users: Int64, nth: Int64, appended: Int64, by: Int64, version: Int64, received: Int64) -> Int64:
        if not len(by) or not len(users):
            return np.full(len(users), -1, np.int64)
        span = int(max(nth.max(), version.max())) + 1
        keys = by * span + version
        # Of two rankings of one version (a re-issue) the first is what the event waited for; lexsort is stable.
        order = np.lexsort((received, keys))
        keys, received, by = keys[order], received[order], by[order]
        found = np.searchsorted(keys, users * span + nth)
        inside = np.minimum(found, len(keys) - 1)
        own = (found < len(keys)) & (by[inside] == users)
        # An answer in the same millisecond may carry a lower number than its cause: clocks round.
        return np.where(own, np.maximum(received[inside] - appended, 0), -1)


@dataclass(frozen=True)
class Verdict:
    """Events lost and duplicated, and where that was seen."""

    lost: int
    duplicated: int
    details: list[str]


def judge(expected: Mapping[str, int], numbering: Numbering, stored: Mapping[str, int]) -> Verdict:
    """Compare a plain count of the input with the newest published and the stored version of every user.

    Args:
        expected: distinct valid events per user.
        stored: version per user in the database.

    """
    published = numbering.versions()
    lost, duplicated = 0, 0
    details = list(numbering.problems)
    for user in expected.keys() | published.keys() | stored.keys():
        wanted, told, kept = expected.get(user, 0), published.get(user, 0), stored.get(user, 0)
        missing, beyond = max(0, wanted - min(told, kept)), max(0, max(told, kept) - wanted)
        lost += missing
        duplicated += beyond
        if (missing or beyond) and len(details) < 2 * _KEPT_PROBLEMS:
            details.append(f"user {user}: {wanted} events in, version {told} published, {kept} stored")
    # Gaps in between are lost to readers even where the end is right again.
    return Verdict(max(lost, numbering.lost), max(duplicated, numbering.duplicated), details)
