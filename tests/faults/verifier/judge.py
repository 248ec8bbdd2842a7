"""Records of all topics in, in log order per partition; what is wrong out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults.verifier import contract
from faults.verifier.contents import Contents
from faults.verifier.items import Item, Items
from faults.verifier.letters import Letters
from faults.verifier.records import Findings, Record
from faults.verifier.trends import Trends
from faults.verifier.users import Profile, Users

TRIGGERS = ("content-triggers.high", "content-triggers.normal", "content-triggers.low")
LETTERS = tuple(f"{name}.dlq" for name in ("items", "interactions", "requests", *TRIGGERS, "statistics"))
READ = (
    "items", "interactions", "requests", "item-features", "rankings", *TRIGGERS, "contents", "statistics", "trends",
    *LETTERS,
)  # fmt: skip
"""Topics that the judge takes."""


@dataclass(frozen=True)
class Stored:
    """What Postgres holds, and the texts that the content worker committed with its offsets."""

    profiles: Sequence[Profile]
    items: Mapping[str, Item]
    outcomes: Mapping[tuple[str, int], str]


class Judge:
    """`add` each record, then `finish`; `findings` says what was found."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix`: of the topics' real names."""
        self.findings = Findings()
        self.users = Users(self.findings)
        self.items = Items(self.findings)
        self.contents = Contents(self.findings)
        self.letters = Letters(self.findings, prefix)
        self.trends = Trends(self.findings)

    def add(self, record: Record) -> None:
        topic = record.place.topic
        if topic == "interactions":
            self._event(record)
        elif topic == "rankings":
            self.users.ranking(record.place, json.loads(record.value or b""))
        elif topic == "items":
            if (item := contract.item(record)) is None:
                self.letters.refuse(record)
            else:
                self.items.item(record.place, item)
        elif topic == "item-features":
            self.items.feature(record)
            if record.value is not None:
                self.users.known_since.setdefault((record.key or b"").decode(), record.time)
        elif topic == "requests":
            self.contents.records[topic, record.place.partition] += 1
            if (request := contract.request(record)) is None:
                self.letters.refuse(record)
            else:
                self.contents.request(record.place, request)
        elif topic in TRIGGERS:
            self.contents.records[topic, record.place.partition] += 1
            self.contents.trigger(record.place, json.loads(record.value or b""))
        elif topic == "contents":
            self.contents.content(record.place, json.loads(record.value or b""))
        elif topic == "statistics":
            self.trends.statistics(json.loads(record.value or b""))
        elif topic == "trends":
            self.trends.trend(record.place, json.loads(record.value or b""))
        elif topic in LETTERS:
            self.letters.letter(record)

    def _event(self, record: Record) -> None:
        event = contract.event(record)
        if event is None:
            self.letters.refuse(record)
        elif self.users.event(record.place, record.time, event):
            self.trends.event(event)

    def finish(self, stored: Stored) -> Findings:
        def vector_of(item: str) -> list[float] | None:
            row = stored.items.get(item)
            return None if row is None else row.vector

        self.users.finish(stored.profiles, vector_of)
        self.items.finish(stored.items)
        self.contents.finish(stored.outcomes)
        self.letters.finish()
        self.trends.finish()
        return self.findings
