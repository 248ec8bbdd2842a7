"""The verifier finds nothing wrong in a right log, and each kind of fault at its place in a wrong one."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import faults.verifier
from faults.verifier.items import Item
from faults.verifier.judge import Judge, Stored
from faults.verifier.records import Findings, Place, Record
from faults.verifier.users import Profile

HALF_LIFE = 1000.0
NOW = 1_700_000_000_000
VECTORS = {"a": [1.0, 0.0], "b": [0.0, 1.0]}


class Log:
    """Records of a small right run, which a test then spoils."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        for name, vector in VECTORS.items():
            self.put("items", name, {"item_id": name, "title": name, "ts": 10})
            feature = {"item_id": name, "vector": repr(vector), "model_version": "m", "ts": 10}
            self.put("item-features", name, feature, time=NOW - 3_600_000)
        for number, (kind, item, ts) in enumerate([("click", "a", 3000), ("like", "b", 4000), ("click", "a", 2000)]):
            self.event(f"e{number}", kind, item, ts)
        self.event("e1", "like", "b", 4000)  # a repeat
        self.put("interactions", "u", b"{")
        self.letter(self.records[-1])
        self.ranking(version=2, events=2)
        self.ranking(version=3, events=1)
        self.ranking(version=3, events=0, revision=1)
        self.put("requests", "r", {"request_id": "q", "user_id": "r", "ts": 1, "item_id": "a"})
        self.put("contents", "r", {"trigger_id": "of-q", "user_id": "r", "kind": "request"})
        self.put("content-triggers.low", "u", {"trigger_id": "t", "user_id": "u"})
        self.statistics(["a", 0, 1, 1.0], ["b", 0, 1, 2.0])
        self.statistics(["a", 0, 1, 1.0])
        for sequence, (item, events) in enumerate([("a", 1), ("b", 1), ("a", 2)]):
            self.trend(item, events, sequence)

    def put(self, topic: str, key: str, value: object, **more: object) -> Record:
        raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        offset = sum(record.place.topic == topic for record in self.records)
        record = Record(Place(topic, 0, offset), key.encode(), raw, **{"time": NOW, **more})
        self.records.append(record)
        return record

    def event(self, event_id: str, kind: str, item: str, ts: int) -> Record:
        event = {"event_id": event_id, "user_id": "u", "type": kind, "item_id": item, "ts": ts}
        return self.put("interactions", "u", event)

    def ranking(self, version: int, events: int, revision: int = 0) -> Record:
        number = {"generation": 0, "version": version, "revision": revision, "events": events}
        return self.put("rankings", "u", {"user_id": "u", **number})

    def statistics(self, *items: list[object]) -> Record:
        return self.put("statistics", "0", {"shard": 0, "items": items})

    def trend(self, item: str, events: int, sequence: int) -> Record:
        window = {"window_start": 0, "window_end": 100_000}
        return self.put("trends", item, {"key": f"item:{item}", **window, "sequence": sequence, "events": events})

    def letter(self, record: Record) -> Record:
        place = record.place
        headers = {
            "upwell-topic": f"run_{place.topic}".encode(), "upwell-partition": b"0",
            "upwell-offset": str(place.offset).encode(),
        }  # fmt: skip
        return self.put(f"{place.topic}.dlq", "u", record.value, headers=headers)

    def of(self, topic: str) -> list[Record]:
        return [record for record in self.records if record.place.topic == topic]

    def judged(self, stored: Stored | None = None) -> Findings:
        judge = Judge("run_")
        for record in self.records:
            judge.add(record)
        return judge.finish(stored or right())


def right() -> Stored:
    """At base 4: clicks on `a` at half-lives 2 and 3, a like (2) of `b` at 4."""
    profile = Profile("u", 0, 3, 1, 4000, 4, HALF_LIFE, [0.25 + 0.5, 2.0])
    items = {name: Item(0, number, False, "m", vector) for number, (name, vector) in enumerate(VECTORS.items())}
    text = json.dumps({"outcomes": {"template": 1}})
    skipped = json.dumps({"outcomes": {"budget": 1}})
    return Stored([profile], items, {("requests", 0): text, ("content-triggers.low", 0): skipped})


def test_a_right_log_is_whole() -> None:
    found = Log().judged()
    assert found.whole, found.shown
    assert (found.lost, found.doubled) == (0, 0)


SPOILED: dict[str, tuple[Callable[[Log], Record | None], tuple[int, int], str]] = {
    "an event that no ranking holds": (lambda log: log.event("e9", "click", "a", 1000), (4, 0), "counted"),
    "a batch twice in statistics": (lambda log: log.statistics(["a", 0, 1, 1.0]), (0, 1), "statistics"),
    "a batch not in statistics": (lambda log: log.records.remove(log.of("statistics")[0]), (2, 0), "statistics"),
    "a ranking is missing": (lambda log: log.records.remove(log.of("rankings")[0]), (2, 0), "numbering"),
    "a ranking twice": (lambda log: log.ranking(3, 1), (0, 1), "numbering"),
    "one event more than there are": (lambda log: log.ranking(4, 1), (0, 1), "counted"),
    "an overlap": (lambda log: log.ranking(4, 2), (0, 2), "numbering"),
    "a bad record that is no dead letter": (lambda log: log.put("interactions", "u", b"["), (1, 0), "dead letter"),
    "a dead letter twice": (lambda log: log.letter(log.of("interactions")[4]), (0, 1), "dead letter"),
    "a good record refused": (lambda log: log.letter(log.of("interactions")[0]), (1, 0), "dead letter"),
    "an item never embedded": (
        lambda log: log.put("items", "c", {"item_id": "c", "title": "c", "ts": 11}), (1, 0), "item",
    ),
    "item-features of another vector": (
        lambda log: log.put("item-features", "a", {"item_id": "a", "vector": "x", "model_version": "m", "ts": 10}),
        (0, 1), "item",
    ),
    "a trigger answered twice": (
        lambda log: log.put("contents", "r", {"trigger_id": "of-q", "user_id": "r", "kind": "request"}),
        (0, 1), "content",
    ),
    "a request that nobody answered": (lambda log: log.records.remove(log.of("contents")[0]), (2, 0), "content"),
    "a trigger that did not end": (
        lambda log: log.put("content-triggers.low", "u", {"trigger_id": "t2", "user_id": "u"}), (1, 0), "content",
    ),
    "an event counted twice in trends": (lambda log: log.trend("b", 2, 9), (0, 1), "trend"),
    "an event not counted in trends": (lambda log: log.trend("a", 1, 9), (1, 0), "trend"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_each_fault_is_counted_and_has_a_place(name: str) -> None:
    spoil, counts, rule = SPOILED[name]
    log = Log()
    spoiled = spoil(log)
    found = log.judged()
    assert (found.lost, found.doubled) == counts, found.shown
    assert rule in found.broken
    if spoiled is not None and rule in {"numbering", "dead letter"}:
        assert any(violation.place == spoiled.place for violation in found.shown), found.shown


@pytest.mark.parametrize(
    ("change", "counts", "rule"),
    [
        ({"version": 2}, (1, 0), "counted"),
        ({"version": 4}, (0, 1), "counted"),
        ({"vector": [0.75, 2.01]}, (0, 0), "profile"),
        ({"vector": [0.75 * 1.001, 2.0 * 1.001]}, (0, 0), "profile"),
        ({"event_time": 3000}, (0, 0), "profile"),
    ],
)
def test_a_stored_profile_of_other_events_is_found(
    change: dict[str, object], counts: tuple[int, int], rule: str
) -> None:
    stored = right()
    wrong = replace(stored, profiles=[replace(stored.profiles[0], **change)])
    found = Log().judged(wrong)
    assert (found.lost, found.doubled) == counts
    assert set(found.broken) == {rule}


def test_a_repeat_from_beyond_the_window_may_count_again() -> None:
    """512 events and ten minutes later; a repeat within the window never may."""

    def log(repeat: str) -> tuple[Judge, int]:
        judge = Judge()
        logged = NOW
        for number, event_id in enumerate([*(f"n{n}" for n in range(600)), repeat]):
            event = {"event_id": event_id, "user_id": "u", "type": "view", "item_id": "a", "ts": 1 + number}
            place, logged = Place("interactions", 0, number), logged + 2000
            judge.add(Record(place, b"u", json.dumps(event).encode(), logged))
        return judge, 601

    for repeat, doubled in (("n3", 0), ("n500", 1)):
        judge, version = log(repeat)
        ranking = {"user_id": "u", "generation": 0, "version": version, "revision": 0, "events": version}
        judge.users.ranking(Place("rankings", 0, 0), ranking)
        judge.users.finish([Profile("u", 0, 600, 0, 600, 0, HALF_LIFE, [1.0])], lambda _: None)
        assert judge.findings.doubled == doubled
        assert judge.findings.lost == 0


def test_an_event_that_waits_for_its_users_next_one_is_set_apart() -> None:
    """The item's vector came after the event, while no worker had the user: said, and no violation. Not so a vector that
    lacks an event of an item known long before."""

    def judged(known: int) -> Judge:
        judge = Judge()
        for record in Log().records:
            judge.add(record if record.place.topic != "item-features" else replace(record, time=known))
        stored = right()
        without_b = replace(stored.profiles[0], vector=[0.75, 0.0])
        judge.finish(replace(stored, profiles=[without_b]))
        return judge

    late, early = judged(NOW + 5), judged(NOW - 3_600_000)
    assert late.users.waiting == 1
    assert not late.findings.broken["profile"]
    assert early.users.waiting == 0
    assert early.findings.broken["profile"] == 1


def test_the_verifier_shares_no_code_with_what_it_judges() -> None:
    allowed = {*sys.stdlib_module_names, "confluent_kafka", "psycopg", "faults"}
    for file in Path(next(iter(faults.verifier.__path__))).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, file
            assert all(name.startswith("faults.verifier") for name in names if name.startswith("faults")), file
