"""Triggers in as they are read; which to answer now, and which not at all, out. Pure: time is an argument, in ms.

Requests first, then by priority, then the newest: a text about what a user did a moment ago is worth more than one
about what he did before. A token budget bounds what is generated; whoever waits too long is skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from upwell.bus.consumer import Partition
from upwell.bus.headers import Headers
from upwell.events.contracts import ContentTrigger

REQUEST: Final = "request"
TEXT: Final = "text"
"""The format that needs no media."""
PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}


class Outcome:
    """How a trigger ends. All but the first two are skips."""

    GENERATED: Final = "generated"
    TEMPLATE: Final = "template"
    SUPERSEDED: Final = "superseded"
    """A newer trigger of the same kind for the same user came in while it waited."""
    EXPIRED: Final = "expired"
    """It had waited too long before it was read."""
    BUDGET: Final = "budget"
    """It waited too long for tokens, or for its turn."""
    ITEM_GONE: Final = "item_gone"
    """Its item is deleted, or was never known."""
    DUPLICATE: Final = "duplicate"
    """The same trigger has been answered at another offset."""
    REFUSED: Final = "refused"
    """It went to the dead letters."""


@dataclass(slots=True, eq=False)
class Pending:
    """A trigger that has not ended."""

    trigger: ContentTrigger
    partition: Partition
    offset: int
    priority: int
    arrived: int
    """When it was read."""
    message: Any = None
    """The record as it came, should it have to go to the dead letters."""
    headers: Headers | None = None
    """What its result carries on."""
    epoch: int = 0
    """Of the partition's takeover: an answer of an earlier one counts no more."""
    failures: int = 0
    """Batches with it that failed for a reason nobody knows; from the first on it is answered alone."""
    failure: str = ""

    @property
    def request(self) -> bool:
        return self.trigger.kind == REQUEST

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Smallest first."""
        created = self.trigger.created
        return (not self.request, self.priority, created if self.request else -created)


def together(pending: list[Pending]) -> list[Pending]:
    """Those at the beginning that may be answered in one batch: one whose batch has failed is answered alone."""
    failed = next((number for number, one in enumerate(pending) if one.failures), None)
    return pending if failed is None else pending[: failed or 1]


class Waiting:
    """Triggers that wait for their turn; at most one of a kind per user, but for requests."""

    def __init__(self, max_wait_ms: int) -> None:
        self._max_wait_ms = max_wait_ms
        self._waiting: dict[Pending, None] = {}
        self._of_user: dict[tuple[str, str], Pending] = {}
        self._deadlines: list[tuple[int, int, Pending]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pending: Pending, now: int) -> list[tuple[Pending, str]]:
        """Let a trigger wait; returns those that end by that, itself perhaps, with their outcome."""
        trigger = pending.trigger
        if pending.request:
            self._push(pending, pending.arrived + self._max_wait_ms)
            return []
        if trigger.created + self._max_wait_ms <= now:
            return [(pending, Outcome.EXPIRED)]
        key = (trigger.user_id, trigger.kind)
        other = self._of_user.get(key)
        if other is not None and other.trigger.created > trigger.created:
            return [(pending, Outcome.SUPERSEDED)]
        ended = []
        if other is not None:
            self._remove(other)
            ended.append((other, Outcome.SUPERSEDED))
        self._of_user[key] = pending
        self._push(pending, trigger.created + self._max_wait_ms)
        return ended

    def overdue(self, now: int) -> list[Pending]:
        """Take out those that have waited too long: triggers to be skipped, requests to be answered without the model."""
        found = []
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2] not in self._waiting):
            _, _, pending = heapq.heappop(self._deadlines)
            if pending in self._waiting:
                self._remove(pending)
                found.append(pending)
        return found

    def take(self, most: int) -> list[Pending]:
        """Take out the most urgent ones, at most `most`; one whose batch has failed comes alone."""
        chosen = together(heapq.nsmallest(most, self._waiting, key=lambda pending: pending.rank))
        for pending in chosen:
            self._remove(pending)
        return chosen

    def requests(self) -> int:
        """How many requests wait."""
        return sum(1 for pending in self._waiting if pending.request)

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget the triggers of these partitions."""
        for pending in [pending for pending in self._waiting if pending.partition in partitions]:
            self._remove(pending)

    def _push(self, pending: Pending, deadline: int) -> None:
        self._sequence += 1
        self._waiting[pending] = None
        heapq.heappush(self._deadlines, (deadline, self._sequence, pending))

    def _remove(self, pending: Pending) -> None:
        del self._waiting[pending]
        key = (pending.trigger.user_id, pending.trigger.kind)
        if self._of_user.get(key) is pending:
            del self._of_user[key]


class Budget:
    """Tokens per second, with a burst; a text's cost is learned from those before it."""

    def __init__(self, tokens_per_second: float, burst: float, first_cost: float, now: int) -> None:
        self._rate = tokens_per_second / 1000
        self._burst = burst
        self._tokens = burst
        self._at = now
        self.cost = first_cost
        """Tokens that one candidate text is expected to take."""

    def answers(self, now: int) -> int:
        """How many triggers can be paid for, with one text each."""
        self._refill(now)
        return max(0, int(self._tokens / self.cost))

    def spare(self, answers: int, now: int) -> int:
        """How many more texts can be paid for beside `answers`, to choose from. Half of the burst is kept for triggers that
        come at once: no text is lost for a choice."""
        self._refill(now)
        return max(0, int((self._tokens - self._burst / 2) / self.cost) - answers)

    def spend(self, tokens: int, texts: int, now: int) -> None:
        """Pay for `texts` candidate texts; requests are answered on credit too."""
        self._refill(now)
        self._tokens -= tokens
        if texts and tokens:
            self.cost = max(1.0, 0.8 * self.cost + 0.2 * tokens / texts)

    def _refill(self, now: int) -> None:
        self._tokens = min(self._burst, self._tokens + max(0, now - self._at) * self._rate)
        self._at = max(now, self._at)
