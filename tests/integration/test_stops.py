"""What stops the interactions worker, and what must not: odd headers, stored state that does not fit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream import Stream, assert_numbering, rankings, send_random, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import Interaction
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(stack, prefix)
    try:
        yield made
    finally:
        made.close()


def test_odd_headers_stop_nothing(stream: Stream) -> None:
    ids = stream.features(10)
    for number, headers in enumerate(([("traceparent", None)], [("", b"")], [("x", b"\xff")])):
        event = Interaction(f"e{number}", "ann", "click", 1_700_000_000_000, ids[number])
        stream.send(Topic.INTERACTIONS, "ann", event, headers=headers)
        stream.send(Topic.INTERACTIONS, "ann", b"garbage", headers=headers)
    stream.flush()
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        records = log.until(lambda found: total(found) == 3)
        with stream.reading(f"{Topic.INTERACTIONS}.dlq") as dead:
            dead.until(lambda found: len(found) == 3)
    assert_numbering(rankings(records))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE profiles SET half_life_ms = 1000", "profiles.half_life_days"),
        ("UPDATE profiles SET model_version = 'older'", "the encoder was changed"),
        ("UPDATE profiles SET partition = 1 - partition", "must be in one partition"),
        ("UPDATE watermark SET next_offset = 100000", "outside the log"),
    ],
)
def test_stored_state_that_does_not_fit_stops_the_worker(stream: Stream, change: str, words: str) -> None:
    ids = stream.features(10)
    send_random(stream, ids, 20, users=3)
    with stream.worker("interactions"):
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(20,)])
    stream.execute(change)
    send_random(stream, ids, 20, users=3, start=20)
    with stream.worker("interactions") as worker:
        assert worker.process.wait(60) == 2
        assert words in worker.log.read_text()
