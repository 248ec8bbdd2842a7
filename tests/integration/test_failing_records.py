"""A record that makes its batch fail for a reason nobody foresaw: it ends in the dead letters, the others go on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from deployment import Deployment, deployed, header
from stream import Stream, assert_numbering, rankings, send_random, total
from support import eventually
from upwell.bus.suspects import ATTEMPTS, MOST_IN_A_ROW
from upwell.bus.topics import Topic
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration


@pytest.fixture
def own(full_stack: Stack, prefix: str) -> Iterator[Deployment]:
    with deployed(full_stack, prefix, content={"max_tokens": 40, "max_wait_s": 60}) as deployment:
        yield deployment


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(stack, prefix)
    try:
        yield made
    finally:
        made.close()


def film(item_id: str, title: str) -> dict:
    return {"item_id": item_id, "title": title, "ts": 1_700_000_000_000}


def test_an_item_that_the_database_refuses(own: Deployment) -> None:
    own.execute("ALTER TABLE items ADD CONSTRAINT house_rule CHECK (title <> 'Heat 7')")
    for number in range(20):
        own.produce("items", f"i{number}", film(f"i{number}", f"Heat {number}"), partition=0)
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    (letter,) = own.read("items.dlq")
    assert letter.key() == b"i7"
    assert json.loads(letter.value()) == film("i7", "Heat 7")
    assert header(letter, "upwell-step") == "process"
    assert "house_rule" in header(letter, "upwell-reason")
    assert f"failed {ATTEMPTS} times" in header(letter, "upwell-reason")
    assert {id_ for (id_,) in own.rows("SELECT item_id FROM items")} == {f"i{n}" for n in range(20)} - {"i7"}
    assert len(own.read("item-features")) == 19


def test_a_release_that_fails_at_everything_stops_and_drains_no_topic(own: Deployment) -> None:
    own.execute("ALTER TABLE items ADD CONSTRAINT house_rule CHECK (title !~ '^Heat')")
    for number in range(MOST_IN_A_ROW + 5):
        own.produce("items", f"i{number}", film(f"i{number}", f"Heat {number}"), partition=0)
    own.flush()
    with own.worker("items") as worker:
        assert worker.process.wait(120) == 70
        assert "house_rule" in worker.log.read_text()
    assert len(own.read("items.dlq")) == MOST_IN_A_ROW


def test_a_user_whose_stored_state_cannot_be_read(stream: Stream) -> None:
    ids = stream.features(10)
    send_random(stream, ids, 60, users=6)
    with stream.worker("interactions"):
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(60,)])
    stream.execute("UPDATE profiles SET events = '\\x00' WHERE user_id = 'u3'")
    (before,) = stream.rows("SELECT version FROM profiles WHERE user_id = 'u3'")[0]
    send_random(stream, ids, 60, users=6, start=60)
    dead_topic = f"{Topic.INTERACTIONS}.dlq"
    with stream.worker("interactions"), stream.reading(dead_topic) as dead, stream.reading(Topic.RANKINGS) as log:
        records = log.until(lambda found: total(found) + len(dead.more()) == 120, 120)
    letters = dead.records
    assert letters
    assert {letter.key() for letter in letters} == {b"u3"}
    assert {header(letter, "upwell-step") for letter in letters} == {"process"}
    by_user = rankings(records)
    assert_numbering(by_user)
    assert by_user["u3"][-1].version == before
    assert sum(published[-1].version for published in by_user.values()) == 120 - len(letters)


@pytest.mark.parametrize("where", ["read", "write"])
def test_a_trigger_that_cannot_be_answered(own: Deployment, where: str) -> None:
    for number, item_id in enumerate(("alien", "poison")):
        own.execute(
            "INSERT INTO items (item_id, topic_id, partition, log_offset, title) VALUES (%s, 't', 0, %s, %s)",
            item_id, number, item_id.title(),
        )  # fmt: skip
    if where == "read":  # as a damaged row would
        own.execute("ALTER TABLE items RENAME TO items_stored")
        own.execute(
            "CREATE VIEW items AS SELECT item_id, CASE WHEN item_id = 'poison' THEN (1 / (log_offset - 1))::text"
            " ELSE title END AS title, categories, attributes, description, deleted, language FROM items_stored"
        )
    else:
        own.execute("ALTER TABLE contents ADD CONSTRAINT house_rule CHECK (user_id <> 'bob')")
    for user, item in (("ann", "alien"), ("bob", "poison"), ("cid", "alien")):
        trigger = {
            "trigger_id": f"{user}-1", "kind": "head_changed", "cause": "r", "user_id": user, "item_id": item,
            "created": time.time_ns() // 1_000_000,
        }  # fmt: skip
        own.produce("content-triggers.normal", user, trigger, partition=0)
    own.flush()
    with own.worker("content"):
        own.drained("content", "content-triggers.normal")
    assert {content["user_id"] for content in own.read_json("contents")} == {"ann", "cid"}
    (letter,) = own.read("content-triggers.normal.dlq")
    assert letter.key() == b"bob"
    assert header(letter, "upwell-step") == "process"
    assert ("house_rule" if where == "write" else "division by zero") in header(letter, "upwell-reason")
