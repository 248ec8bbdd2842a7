"""Each distinct event stands in `statistics` once. Trends are published at least once, idempotent by (key, window,
sequence); their counts of items are exact in the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from faults.verifier.records import Findings, Place

ITEM = "item:"


class Trends:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.events: Counter[tuple[str, int]] = Counter()
        """Distinct events by item and event time; times become windows once their width is known."""
        self.told: Counter[str] = Counter()
        """Events by item in `statistics`."""
        self.width = 0
        self._latest: dict[tuple[str, int], tuple[int, int, Place]] = {}
        """(key, window) to the highest sequence, its events and where it was published."""

    def event(self, event: dict[str, Any]) -> None:
        """A distinct event."""
        self.events[event["item_id"], event["ts"]] += 1

    def statistics(self, record: dict[str, Any]) -> None:
        """`items`: lists of item, window, events, weight."""
        for item, _, events, *_ in record["items"]:
            self.told[item] += events

    def trend(self, place: Place, trend: dict[str, Any]) -> None:
        if not trend["key"].startswith(ITEM):
            return
        self.width = trend["window_end"] - trend["window_start"]
        where = (trend["key"].removeprefix(ITEM), trend["window_start"])
        sequence, events = trend["sequence"], trend["events"]
        if (held := self._latest.get(where)) is not None and held[0] == sequence and held[1] != events:
            words = f"{where}, sequence {sequence}: {events} events, and {held[1]} at {held[2]}"
            self.findings.add("trend", place, words)
        if held is None or sequence >= held[0]:
            self._latest[where] = (sequence, events, place)

    def finish(self) -> None:
        came: Counter[str] = Counter()
        for (item, _), count in self.events.items():
            came[item] += count
        for item in came.keys() | self.told.keys():
            if came[item] != self.told[item]:
                words = f"{item}: {came[item]} events, {self.told[item]} in statistics"
                missing, beyond = max(0, came[item] - self.told[item]), max(0, self.told[item] - came[item])
                self.findings.add("statistics", None, words, lost=missing, doubled=beyond)
        wanted: Counter[tuple[str, int]] = Counter()
        for (item, time), count in self.events.items():
            wanted[item, time - time % self.width if self.width else 0] += count
        for where in wanted.keys() | self._latest.keys():
            _, found, place = self._latest.get(where, (0, 0, None))
            if found != wanted[where]:
                words = f"{where}: {wanted[where]} events, {found} counted"
                self.findings.add(
                    "trend", place, words, lost=max(0, wanted[where] - found), doubled=max(0, found - wanted[where])
                )
