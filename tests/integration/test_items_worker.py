"""The items worker as a real process on real servers: rows, features and tombstones, dead letters, crashes, order."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import numpy as np
import pytest

from deployment import Deployment, deployed, header
from support import eventually
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

NOW = time.time_ns() // 1_000_000


@pytest.fixture
def own(full_stack: Stack, prefix: str) -> Iterator[Deployment]:
    with deployed(full_stack, prefix) as deployment:
        yield deployment


def film(item_id: str, title: str, **further: object) -> dict:
    return {"item_id": item_id, "title": title, "categories": ["Horror"], "ts": NOW, **further}


def test_an_item_becomes_a_row_and_a_feature_record_and_a_deletion_a_tombstone(own: Deployment) -> None:
    own.produce("items", "a", film("a", "<b>Alien</b> &amp; co", attributes={"director": "Ridley Scott"}))
    own.produce("items", "b", film("b", "Toy Story", categories=["Animation"]))
    own.produce("items", "c", film("c", "Se7en"))
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
        own.produce("items", "a", film("a", "Alien", op="delete"))
        own.produce("items", "b", None)
        own.flush()
        own.drained("items", "items")
    by_key: dict[str, list[bytes | None]] = {}
    for message in own.read("item-features"):
        by_key.setdefault(message.key().decode(), []).append(message.value())
    assert {key: [value is None for value in values] for key, values in by_key.items()} == {
        "a": [False, True], "b": [False, True], "c": [False],
    }  # fmt: skip
    features = json.loads(by_key["c"][0] or b"")
    assert features["title"] == "Se7en"
    assert features["modalities"] == {"text": 1.0}
    assert features["model_version"]
    vector = np.frombuffer(base64.b64decode(features["vector"]), "<f4")
    assert vector.shape == (384,)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-3
    assert own.rows("SELECT item_id, deleted, title, vector IS NOT NULL FROM items ORDER BY item_id") == [
        ("a", True, "Alien & co", True), ("b", True, "Toy Story", True), ("c", False, "Se7en", True),
    ]  # fmt: skip


def test_attributes_that_are_named_are_facts_in_the_features(full_stack: Stack, prefix: str) -> None:
    with deployed(full_stack, prefix, items={"facts": ["director", "cast"]}) as own:
        attributes = {"director": "Ridley <b>Scott</b>", "cast": ["Weaver", "Hurt"], "year": 1979}
        own.produce("items", "a", film("a", "Alien", attributes=attributes))
        own.flush()
        with own.worker("items"):
            own.drained("items", "items")
        (told,) = [json.loads(message.value())["facts"] for message in own.read("item-features")]
    assert told == [["director", "Ridley Scott"], ["cast", "Weaver"], ["cast", "Hurt"]]


def test_garbage_goes_to_the_dead_letters_and_the_rest_is_processed(own: Deployment) -> None:
    garbage: list[tuple[bytes | None, bytes | None, str]] = [
        (b"g", bytes(range(256)), "malformed"),
        (b"g", b'{"item_id": 7, "title": "x"}', "Expected `str`"),
        (b"g", b'{"item_id": "g", "title": "x", "ts": 1e400}', "out of range"),
        (b"g", b'{"item_id": "g", "title": "x", "attributes": {"n": 1' + b"0" * 40 + b"}}", "64 bits"),
        (b"g", b'{"title": "x"}', "item_id"),
        (b"g", b'{"item_id": "g", "title": "' + b"x" * 5_000_000 + b'"}', "max_record_bytes"),
        (b"g", b'{"item_id": "g", "title": "x", "op": "explode"}', "neither upsert nor delete"),
        (b"g", json.dumps(film("g", "x", ts=NOW + 10**12)).encode(), "future"),
        (b"g", json.dumps(film("g", "x", ts=-1)).encode(), "not a time"),
        (b"g", json.dumps(film("g", "a\x00b")).encode(), "U+0000"),
        (b"g", json.dumps(film("g", "<br>")).encode(), "after cleaning"),
        (b"other", json.dumps(film("g", "x")).encode(), "is not its item_id"),
    ]
    own.produce("items", "first", film("first", "Alien"))
    for key, value, _ in garbage:
        own.produce("items", key, value, partition=0)
    own.produce("items", "last", film("last", "Aliens"))
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    letters = own.read("items.dlq")
    assert [letter.value() for letter in letters] == [value for _, value, _ in garbage]
    assert [letter.key() for letter in letters] == [key for key, _, _ in garbage]
    for letter, (_, _, reason) in zip(letters, garbage, strict=True):
        assert reason in header(letter, "upwell-reason")
        assert header(letter, "upwell-topic") == own.topic("items")
        assert header(letter, "upwell-partition") == "0"
        assert header(letter, "upwell-step") in {"decode", "validate", "clean"}
        assert int(header(letter, "upwell-offset")) >= 0
        assert header(letter, "upwell-attempts") == "1"
    assert {row[0] for row in own.rows("SELECT item_id FROM items")} == {"first", "last"}


def test_an_older_record_of_the_same_partition_never_overwrites(own: Deployment) -> None:
    own.produce("items", "x", film("x", "Old"), partition=0)
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    # A newer owner of the partition has stored a later record already, when this worker reads the one before it.
    own.execute("UPDATE items SET log_offset = 10, title = 'Newest'")
    own.produce("items", "x", film("x", "Between"), partition=0)
    own.produce("items", "y", film("y", "Other"), partition=0)
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    assert own.rows("SELECT title FROM items ORDER BY item_id") == [("Newest",), ("Other",)]
    assert [f["title"] for f in own.read_json("item-features")] == ["Old", "Other"]
    # Of a re-created topic, whose offsets begin anew, the new record wins.
    own.execute("UPDATE items SET topic_id = 'another'")
    own.produce("items", "x", film("x", "Re-created"), partition=0)
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    assert own.rows("SELECT title FROM items WHERE item_id = 'x'") == [("Re-created",)]


def test_stored_items_of_another_encoder_stop_the_worker_before_it_mixes_them(own: Deployment) -> None:
    own.produce("items", "a", film("a", "Alien"))
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    own.execute("UPDATE items SET model_version = 'larger@0123456789ab'")
    own.produce("items", "b", film("b", "Brazil"))
    own.flush()
    with own.worker("items") as worker:
        assert worker.process.wait(60) == 2
        log = worker.log.read_text()
    assert "vectors of larger@0123456789ab, and the encoder is all-MiniLM-L6-v2@" in log
    assert "upwell models prepare" in log
    assert own.rows("SELECT item_id FROM items") == [("a",)]


def test_a_new_item_finds_its_audience_once(own: Deployment) -> None:
    own.produce("items", "old", film("old", "A film about space and monsters"))
    own.flush()
    with own.worker("items"):
        own.drained("items", "items")
    ((vector, model_version),) = own.rows("SELECT vector, model_version FROM items")
    for user, sign, time_ms in (("near", 1, NOW), ("far", -1, NOW), ("asleep", 1, NOW - 60 * 86_400_000)):
        own.execute(
            "INSERT INTO profiles (user_id, partition, state_version, model_version, generation, version, revision,"
            " event_time, base, half_life_ms, vector, events, slates, slate_items)"
            " VALUES (%s, 0, 1, %s, 0, 9, 0, %s, 0, 1, %s, '', '', '{}')",
            user, model_version, time_ms, vector.to_numpy() * sign * 3,
        )  # fmt: skip
    with own.worker("items"):
        for title in ("Space monsters", "Space monsters again"):
            own.produce("items", "new", film("new", title))
            own.flush()
            own.drained("items", "items")
    assert [(t["user_id"], t["item_id"], t["kind"]) for t in own.read_json("content-triggers.low")] == [
        ("near", "new", "new_item")
    ]


def test_killed_at_any_moment_it_loses_and_doubles_nothing(own: Deployment) -> None:
    count = 400
    for n in range(count):
        own.produce("items", f"i{n}", film(f"i{n}", f"Film number {n}"))
    own.flush()
    for share in (1, 2):
        with own.worker("items") as worker:
            stored = f"SELECT count(*) FROM items HAVING count(*) >= {count * share // 4}"
            eventually(lambda query=stored: own.rows(query), 90, "some items are stored")
            worker.kill()
    with own.worker("items"):
        own.drained("items", "items", timeout=90)
    features = own.read_json("item-features")
    assert sorted(f["item_id"] for f in features) == sorted(f"i{n}" for n in range(count))
    assert own.rows("SELECT count(*), count(vector) FROM items") == [(count, count)]


def test_it_waits_for_triton_and_for_postgres(own: Deployment, full_stack: Stack) -> None:
    with own.worker("items"):
        own.produce("items", "a", film("a", "Alien"))
        own.flush()
        own.drained("items", "items")
        full_stack.restart("triton", kill=True)
        own.produce("items", "b", film("b", "Brazil"))
        own.flush()
        full_stack.restart("postgres", kill=True)
        own.produce("items", "c", film("c", "Casablanca"))
        own.flush()
        own.drained("items", "items", timeout=120)
    assert [f["item_id"] for f in sorted(own.read_json("item-features"), key=lambda f: f["item_id"])] == ["a", "b", "c"]
