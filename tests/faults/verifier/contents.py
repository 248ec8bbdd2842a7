"""Each content trigger is answered at most once and ends exactly once; each request is answered exactly once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from faults.verifier.records import Findings, Place

REQUEST = "request"
ANSWERED = ("generated", "template")


class Contents:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.triggers: dict[str, Place] = {}
        self.requests: dict[tuple[str, str], Place] = {}
        """(user, request id) to its first place."""
        self.contents: dict[str, Place] = {}
        self.records: Counter[tuple[str, int]] = Counter()
        """Triggers and requests per topic and partition, bad ones too."""
        self._answered: Counter[str] = Counter()
        """Answered requests by user."""

    def trigger(self, place: Place, trigger: dict[str, Any]) -> None:
        before = self.triggers.setdefault(trigger["trigger_id"], place)
        if before != place:
            self.findings.add("content", place, f"trigger {trigger['trigger_id']} stands at {before} too", doubled=1)

    def request(self, place: Place, request: dict[str, Any]) -> None:
        self.requests.setdefault((request["user_id"], request["request_id"]), place)

    def content(self, place: Place, content: dict[str, Any]) -> None:
        trigger = content["trigger_id"]
        before = self.contents.setdefault(trigger, place)
        if before != place:
            self.findings.add("content", place, f"trigger {trigger} was answered at {before} already", doubled=1)
        elif content["kind"] == REQUEST:
            self._answered[content["user_id"]] += 1

    def finish(self, outcomes: Mapping[tuple[str, int], str]) -> None:
        """
        Args:
            outcomes: the text of the committed offset, by topic and partition: it counts how triggers ended.
        """
        asked = Counter(user for user, _ in self.requests)
        places = {user: place for (user, _), place in self.requests.items()}
        for user in asked.keys() | self._answered.keys():
            wanted, found = asked[user], self._answered[user]
            if wanted != found:
                words = f"{user}: {wanted} requests, {found} answers"
                self.findings.add(
                    "content", places.get(user), words, lost=max(0, wanted - found), doubled=max(0, found - wanted)
                )
        ended: Counter[str] = Counter()
        for (topic, partition), records in self.records.items():
            text = outcomes.get((topic, partition), "")
            counts = json.loads(text)["outcomes"] if text else {}
            ended.update(counts)
            if (total := sum(counts.values())) != records:
                words = f"{records} triggers, {total} ended: {counts}"
                place = Place(topic, partition, 0)
                self.findings.add(
                    "content", place, words, lost=max(0, records - total), doubled=max(0, total - records)
                )
        told = sum(ended[name] for name in ANSWERED)
        if told != len(self.contents):
            words = f"{told} triggers ended as answered, {len(self.contents)} are"
            self.findings.add(
                "content",
                None,
                words,
                lost=max(0, told - len(self.contents)),
                doubled=max(0, len(self.contents) - told),
            )
