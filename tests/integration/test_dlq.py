"""`upwell dlq` on real dead letters: counted, shown, written back once whatever is killed, given up; and the limit of bad
data in the real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message

from deployment import Deployment, header
from stream import START_MS, Stream, assert_numbering, rankings, send_random, total
from support import eventually
from upwell.bus import clients
from upwell.bus.dead_letters import dead_letter
from upwell.bus.errors import Fenced
from upwell.bus.letters import Box, Choice, Settled
from upwell.bus.settling import Settler
from upwell.bus.topics import Topic
from upwell.events.contracts import Interaction, Item
from upwell.local.redriving import Plan, Redriving
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration
DEAD = f"{Topic.INTERACTIONS}.dlq"


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(stack, prefix)
    try:
        yield made
    finally:
        made.close()


def dlq(own: Deployment, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The command's JSON."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | own.environment
    command = [sys.executable, "-m", "upwell.cli.main", "dlq", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def kinds(own: Deployment, *arguments: str) -> dict[tuple[str, str], int]:
    """Letters by state and step."""
    found = dlq(own, "list", *arguments)
    counted = Counter[tuple[str, str]]()
    for kind in found["kinds"]:
        counted[kind["state"], kind["step"]] += kind["letters"]
    assert found["letters"] == sum(counted.values())
    return dict(counted)


def event(number: int, kind: str) -> Interaction:
    return Interaction(f"{kind}-{number}", f"u{number % 5}", kind, START_MS + number * 1000, f"i{number % 10}")


def taps(stream: Stream, count: int, garbage: int = 0) -> None:
    """Events of a type that has no weight, and records that cannot be read, in the dead letters by the real worker."""
    stream.features(10)
    for number in range(count):
        tap = event(number, "tap")
        stream.send(Topic.INTERACTIONS, tap.user_id, tap, headers=[("source", b"shop")])
    for _ in range(garbage):
        stream.send(Topic.INTERACTIONS, "u1", b"\xff garbage")
    stream.flush()
    with stream.worker("interactions"), stream.reading(DEAD) as dead:
        dead.until(lambda found: len(found) == count + garbage)
    stream.environment["UPWELL_EVENTS__WEIGHTS"] = '{"tap": 1.0}'


def by_id(records: list[Message]) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {}
    for record in records:
        if (record.value() or b"").startswith(b"{"):
            found.setdefault(json.loads(record.value() or b"")["event_id"], []).append(record)
    return found


def test_what_was_mended_is_written_back_and_counts_once_and_the_rest_stays(stream: Stream) -> None:
    taps(stream, 30, garbage=4)
    assert kinds(stream) == {("open", "validate"): 30, ("open", "decode"): 4}
    chosen = ("--topic", "interactions", "--reason", "NO WEIGHT")
    assert dlq(stream, "redrive", *chosen, "--dry-run")["topics"]["interactions"]["letters"] == 30
    assert kinds(stream)["open", "validate"] == 30, "a dry run changes nothing"
    assert dlq(stream, "redrive", *chosen, "--limit", "10")["topics"]["interactions"]["letters"] == 10
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        log.until(lambda found: total(found) == 10)
        assert dlq(stream, "redrive", *chosen)["topics"]["interactions"]["letters"] == 20
        records = log.until(lambda found: total(found) == 30)
    assert_numbering(rankings(records))
    assert dlq(stream, "redrive", *chosen)["topics"]["interactions"]["letters"] == 0
    every = ("--state", "open", "--state", "redriven")
    assert kinds(stream, *every) == {("redriven", "validate"): 30, ("open", "decode"): 4}
    found = by_id(stream.read(Topic.INTERACTIONS))
    assert len(found) == 30
    for first, again in found.values():
        assert (again.partition(), again.key(), again.value()) == (first.partition(), first.key(), first.value())
        assert header(again, "source") == "shop"
        assert "no weight" in header(again, "upwell-reason")


def test_what_fails_again_tells_its_history_and_can_be_given_up(stream: Stream) -> None:
    taps(stream, 3, garbage=2)
    assert dlq(stream, "redrive", "--worker", "interactions", "--step", "decode")["topics"]["interactions"] == {
        "letters": 2, "superseded": 0, "foreign": 0,
    }  # fmt: skip
    with stream.worker("interactions"), stream.reading(DEAD) as dead:
        dead.until(lambda found: len(found) == 3 + 2 + 2)
    (first, _) = dlq(stream, "show", "--step", "decode", "--state", "redriven")["letters"]
    letters = dlq(stream, "show", "--step", "decode")["letters"]
    assert len(letters) == 2
    for letter in letters:
        assert letter["attempts"] == 2
        assert letter["first_ms"] <= letter["history"][0]["ms"] <= letter["history"][0]["redriven_ms"]
        assert letter["history"][0]["step"] == "decode"
        assert (letter["key"], letter["encoding"], letter["headers"]) == ("u1", "base64", [])
        assert letter["from"]["topic"] == stream.topic(Topic.INTERACTIONS)
    assert first["history"] == []
    assert dlq(stream, "list", "--attempts", "1")["letters"] == 3
    assert dlq(stream, "drop", "--step", "decode")["topics"]["interactions"]["letters"] == 2
    assert kinds(stream) == {("open", "validate"): 3}
    assert dlq(stream, "redrive", "--step", "decode")["topics"]["interactions"]["letters"] == 0
    again = dlq(stream, "redrive", "--step", "decode", "--dropped", "--at", letters[0]["at"])
    assert again["topics"]["interactions"]["letters"] == 1
    assert dlq(stream, "list", "--hours", "1", "--key", "u0")["letters"] == 1
    assert dlq(stream, "list", "--until", "2020-01-01")["letters"] == 0


def test_a_letter_that_a_newer_record_has_overtaken_is_not_written_back(stream: Stream) -> None:
    dead, name = stream.topic(f"{Topic.ITEMS}.dlq"), stream.topic(Topic.ITEMS)
    for item in ("old", "same"):
        stream.send(Topic.ITEMS, item, Item(item, title="First"), partition=0)
    stream.flush()
    for message in stream.read(Topic.ITEMS):
        output = dead_letter(message, "media", "nobody answered")
        assert output.topic == dead
        stream.producer.produce(dead, output.value, output.key, headers=output.headers)
    stream.producer.produce(dead, b"{}", b"same")  # of somebody else
    stream.send(Topic.ITEMS, "old", Item("old", title="Second"), partition=0)
    stream.flush()
    done = dlq(stream, "redrive", "--topic", name)["topics"]["items"]
    assert done == {"letters": 1, "superseded": 1, "foreign": 1}
    assert [(m.key(), json.loads(m.value() or b"")["title"]) for m in stream.read(Topic.ITEMS)] == [
        (b"old", "First"), (b"same", "First"), (b"old", "Second"), (b"same", "First"),
    ]  # fmt: skip
    assert dlq(stream, "drop", "--superseded")["topics"]["items"]["letters"] == 1
    assert dlq(stream, "list")["letters"] == 1


def test_a_second_redrive_takes_over_and_the_first_one_writes_nothing_more(stream: Stream) -> None:
    taps(stream, 6)
    kafka = stream.settings.kafka
    box = Box.of(kafka, stream.admin, Topic.INTERACTIONS)

    def open_letters(settled: Settled) -> list[Any]:
        return [letter for letter, _ in box.letters(settled, Choice())]

    first = Settler(box, stream.admin, kafka.partitions)
    letters = open_letters(first.settled)
    first.redrive(letters[:2])
    second = Settler(box, stream.admin, kafka.partitions)
    assert [one.place for one in open_letters(second.settled)] == [one.place for one in letters[2:]]
    with pytest.raises(Fenced, match="somebody else"):
        first.redrive(letters[2:4])
    second.redrive(letters[2:])
    assert {len(found) for found in by_id(stream.read(Topic.INTERACTIONS)).values()} == {2}
    assert open_letters(Settled(kafka, clients.admin(kafka), box.dead)) == []


def test_redrives_that_are_killed_and_run_twice_write_each_letter_back_once(stack: Stack, prefix: str) -> None:
    with Redriving(Plan(letters=600), stack=stack, name=prefix.rstrip("_")) as run:
        found = run.run()
    assert (found.letters, len(found.killed_after)) == (600, 3)
    assert all(150 <= back < 600 for back in found.killed_after)
    assert (found.missing, found.doubled, found.moved, found.left_open) == (0, 0, 0, 0)
    assert (found.lost, found.duplicated) == (0, 0)


def test_a_worker_stops_before_bad_data_drains_its_topic(stream: Stream) -> None:
    ids = stream.features(10)
    send_random(stream, ids, 20, users=5)
    with stream.worker("interactions"):
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(20,)])
    for number in range(200):
        tap = event(number, "tap")
        stream.send(Topic.INTERACTIONS, tap.user_id, tap)
    stream.flush()
    stream.environment["UPWELL_DEAD_LETTERS__MAX_IN_A_ROW"] = "50"
    with stream.worker("interactions") as worker:
        assert worker.process.wait(60) == 2
        assert "more than 50 records in a row are refused" in worker.log.read_text()
        assert "no weight" in worker.log.read_text()
    assert len(stream.read(DEAD)) <= 50
    stream.environment["UPWELL_EVENTS__WEIGHTS"] = '{"tap": 1.0}'
    with stream.worker("interactions"), stream.reading(DEAD) as dead:
        refused = len(dead.to_end())
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(220 - refused,)])
