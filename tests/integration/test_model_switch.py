"""A switch of the encoder on the real stack: prepared beside the live one, then items, profiles and rankings together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from stream import Stream, assert_numbering, rankings, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import Item
from upwell.inference.encode import TextEncoder
from upwell.items.cleaning import encoder_text
from upwell.local.stack import Stack
from upwell.ranking.profile import EMPTY_BASE, add, decay
from upwell.store import arrays

pytestmark = pytest.mark.integration

MODELS = ("text_encoder", "text_encoder_int8")

NEXT = "text_encoder_int8"
HALF_LIFE_MS = 60 * 86_400_000
WORDS = ["apple", "river", "violin", "rocket", "castle", "tiger", "lamp", "bread", "storm", "garden"]


@pytest.fixture
def stream(full_stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(full_stack, prefix, kafka={"batch_max_records": 50}, profiles={"flush_ms": 100})
    try:
        yield made
    finally:
        made.close()


def upwell(stream: Stream, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | stream.environment
    command = [sys.executable, "-m", "upwell.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def items(stream: Stream, first: int, count: int) -> list[str]:
    ids = [f"i{number}" for number in range(first, first + count)]
    for number, item_id in enumerate(ids, first):
        title = f"{WORDS[number % 10]} and {WORDS[number // 10 % 10]} {number}"
        stream.send(Topic.ITEMS, item_id, Item(item_id, title=title, ts=1))
    stream.flush()
    return ids


def expected(stream: Stream, user: str, encoder: TextEncoder) -> np.ndarray:
    """The user's profile by hand: the sum over the log, of vectors made afresh."""
    events = [json.loads(m.value()) for m in stream.read(Topic.INTERACTIONS) if m.key().decode() == user]
    titles = dict(stream.rows("SELECT item_id, title FROM items"))
    vectors, bases = np.zeros((1, 384), np.float32), np.full(1, EMPTY_BASE, np.int64)
    for event in events:
        (vector,) = encoder.encode([encoder_text(titles[event["item_id"]], [], "", {})])
        add(vectors, bases, 0, vector, 1.0, *decay(event["ts"], HALF_LIFE_MS))
    return vectors[0]


def stored(stream: Stream, user: str) -> tuple[str, np.ndarray]:
    ((version, sent),) = stream.rows("SELECT model_version, vector_send(vector) FROM profiles WHERE user_id = %s", user)
    return version, arrays.vector(bytes(sent))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_items_profiles_and_rankings_go_over_together_while_events_come_in(stream: Stream, full_stack: Stack) -> None:
    triton = full_stack.endpoints().triton
    old, new = TextEncoder(triton), TextEncoder(triton, model=NEXT)
    sent = 0

    def events(count: int, users: int = 8) -> None:
        nonlocal sent
        for number in range(sent, sent + count):
            stream.event(number, f"u{number % users}", f"i{number * 7 % 40}")
        sent += count
        stream.flush()

    items(stream, 0, 40)
    with stream.worker("items"), stream.worker("interactions") as first, stream.reading(Topic.RANKINGS) as log:
        stream.drained("items", Topic.ITEMS)
        events(80)
        log.until(lambda found: total(found) == 80)

        begun = upwell(stream, "models", "prepare", NEXT)
        assert begun.returncode == 0, begun.stderr
        assert old.model_version != new.model_version
        eventually(lambda: json.loads(upwell(stream, "models", "list", "--json").stdout)["versions"][1]["lacking"] == 0)
        # Prepared, and nothing has changed for anybody.
        events(80)
        records = log.until(lambda found: total(found) == 160)
        assert {r.model_version for of in rankings(records).values() for r in of} == {old.model_version}
        items(stream, 40, 5)  # new ones meanwhile

        done = upwell(stream, "models", "switch", new.model_version)
        assert done.returncode == 0, done.stderr
        events(80)
        records = log.until(lambda found: total(found) == 240)
        eventually(lambda: all(stored(stream, f"u{n}")[0] == new.model_version for n in range(8)))
        first.kill()
        events(40)
        items(stream, 45, 3)
        with stream.worker("interactions", slot=1):
            records = log.until(lambda found: total(found) == 280)
        with stream.worker("interactions"):
            events(40)
            records = log.until(lambda found: total(found) == 320)

    by_user = rankings(records)
    assert_numbering(by_user)
    for published in by_user.values():
        used = [ranking.model_version for ranking in published]
        assert used[-1] == new.model_version
        assert used == sorted(used, key=[old.model_version, new.model_version].index), "never back"
    assert stream.rows("SELECT DISTINCT model_version FROM items WHERE vector IS NOT NULL") == [(new.model_version,)]
    assert stream.rows("SELECT count(*) FROM items WHERE vector IS NOT NULL") == [(48,)]
    switches = stream.rows("SELECT partition, model_version FROM model_switches ORDER BY partition")
    assert switches == [(0, new.model_version), (1, new.model_version)]
    assert dict(stream.rows("SELECT model_version, state FROM model_versions")) == {
        old.model_version: "retired", new.model_version: "live",
    }  # fmt: skip
    for user in ("u0", "u5"):
        _, vector = stored(stream, user)
        assert cosine(vector, expected(stream, user, new)) > 1 - 1e-6
        assert cosine(vector, expected(stream, user, old)) < 1 - 1e-4
    old.close()
    new.close()


def test_profiles_of_users_who_do_nothing_are_rebuilt_too_and_deleted_items_still_count(stream: Stream) -> None:
    items(stream, 0, 10)
    with stream.worker("items"), stream.worker("interactions"):
        stream.drained("items", Topic.ITEMS)
        stream.event(0, "idle", "i1")
        stream.event(1, "idle", "i2")
        stream.flush()
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(2,)])
        stream.send(Topic.ITEMS, "i2", Item("i2", op="delete", ts=1))
        stream.flush()
        eventually(lambda: stream.rows("SELECT deleted FROM items WHERE item_id = 'i2'") == [(True,)])
        assert upwell(stream, "models", "prepare", NEXT).returncode == 0
        version = json.loads(upwell(stream, "models", "list", "--json").stdout)["versions"][1]["model_version"]
        assert upwell(stream, "models", "switch", version).returncode == 0
        eventually(lambda: stored(stream, "idle")[0] == version)
    encoder = TextEncoder(stream.settings.triton.url, model=NEXT)
    _, vector = stored(stream, "idle")
    assert cosine(vector, expected(stream, "idle", encoder)) > 1 - 1e-6
    encoder.close()


def test_what_cannot_be_prepared_or_switched_to_is_said(stream: Stream) -> None:
    assert "no items yet" in upwell(stream, "models", "list").stdout
    none = upwell(stream, "models", "prepare", NEXT)
    assert (none.returncode, "there are no items yet" in none.stderr) == (2, True)
    items(stream, 0, 3)
    with stream.worker("items"):
        stream.drained("items", Topic.ITEMS)
    same = upwell(stream, "models", "prepare", "text_encoder")
    assert (same.returncode, "which is live already" in same.stderr) == (2, True)
    away = upwell(stream, "models", "prepare", "nobody")
    assert (away.returncode, "nobody does not answer" in away.stderr) == (3, True)
    assert upwell(stream, "models", "prepare", NEXT).returncode == 0
    twice = upwell(stream, "models", "prepare", NEXT)
    assert (twice.returncode, "another version is being prepared" in twice.stderr) == (2, True)
    version = json.loads(upwell(stream, "models", "list", "--json").stdout)["versions"][1]["model_version"]
    # No items worker runs: nothing gets prepared.
    early = upwell(stream, "models", "switch", version, "--wait", "0")
    assert (early.returncode, "0 of 3 items prepared" in early.stderr) == (3, True)
    assert upwell(stream, "models", "drop", version).returncode == 0
    assert upwell(stream, "models", "switch", version).returncode == 2
