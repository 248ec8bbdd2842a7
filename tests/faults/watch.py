"""How long a fault was felt: how far the groups are, asked again and again from outside.

A fault is over when every partition of the groups concerned has committed a record that came in after it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException

from faults.producer import Producer
from faults.verifier.outside import Group

PAUSE_S = 0.2
Where = tuple[str, int]

CONCERNED = {
    "interactions": ("interactions",),
    "items": ("items",),
    "content": ("content",),
    "trends": ("trends",),
    "broker": ("interactions", "items", "content", "trends"),
    "postgres": ("interactions", "items", "content"),
    "triton": ("items", "content"),
}
"""Target of a fault to the groups that feel it."""
INPUT = {"interactions": "interactions", "items": "items", "content": "requests", "trends": "statistics"}
"""The topic of each group in which something comes in all the time."""


@dataclass(frozen=True)
class Marks:
    """What must be committed before a fault is over, by group."""

    at: float
    """Monotonic."""
    wanted: Mapping[str, Mapping[Where, int]]


class Watch:
    """A thread per group; `close` ends them."""

    def __init__(self, groups: Mapping[str, Group], producer: Producer) -> None:
        self._groups, self._producer = groups, producer
        self._committed: dict[str, dict[Where, int]] = {name: {} for name in groups}
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(name,), daemon=True) for name in groups]
        for thread in self._threads:
            thread.start()

    def marks(self, target: str) -> Marks:
        """Take them right before the fault."""
        return Marks(time.monotonic(), {group: self._next(group) for group in CONCERNED[target]})

    def passed(self, marks: Marks) -> bool:
        """Whether the fault is over."""
        return all(self._past(group, wanted) for group, wanted in marks.wanted.items())

    def running(self) -> bool:
        """Whether every group has committed something in each partition of its input."""
        return all(
            self._committed[name].get(where, -1) > 0
            for name, group in self._groups.items()
            for where in group.places
            if where[0] == INPUT[name]
        )

    def worked_off(self, group: str) -> bool:
        """Whether the group has committed all that was acknowledged of its input."""
        sent = {where: end for where, end in self._producer.delivered().items() if where[0] == INPUT[group]}
        return bool(sent) and all(self._committed[group].get(where, -1) >= end for where, end in sent.items())

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _next(self, group: str) -> dict[Where, int]:
        """By partition: a record is committed that came in from now on."""
        topic = INPUT[group]
        if group == "trends":  # its input is the workers': beyond what is committed there is always some
            return {where: offset + 1 for where, offset in self._committed[group].items() if where[0] == topic}
        return {where: offset + 1 for where, offset in self._producer.delivered().items() if where[0] == topic}

    def _past(self, group: str, wanted: Mapping[Where, int]) -> bool:
        committed, ends = self._committed[group], self._producer.ends
        return all(committed.get(where, -1) >= min(mark, ends.get(where, mark)) for where, mark in wanted.items())

    def _follow(self, name: str) -> None:
        while not self._closed.wait(PAUSE_S):
            try:
                told = self._groups[name].committed(timeout_s=2.0)
            except KafkaException:
                continue
            self._committed[name] = {where: offset for where, (offset, _) in told.items()}


def wait(done: threading.Event, watch: Watch, marks: Marks, limit_s: float) -> float | None:
    """Seconds from the fault until it was over; None where it was not within `limit_s`, or where `done` came first."""
    while time.monotonic() - marks.at < limit_s and not done.wait(PAUSE_S / 2):
        if watch.passed(marks):
            return time.monotonic() - marks.at
    return None


def quantile(seconds: Sequence[float], share: float) -> float:
    """Nearest rank; 0 of none."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
