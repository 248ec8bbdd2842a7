"""The transactional consumer on a real broker, where librdkafka has surprises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream import Stream, assert_numbering, rankings, send_random, total
from support import eventually
from upwell.bus import clients
from upwell.bus.consumer import Batch, TransactionalConsumer
from upwell.bus.errors import Aborted
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


def test_a_pause_ends_with_the_assignment(stream: Stream) -> None:
    """A rebalance while a batch waits for a server: what comes back afterwards is read again, not paused for ever."""
    send_random(stream, ["a", "b"], 200)
    kafka = stream.settings.kafka
    topic = stream.topic(Topic.INTERACTIONS)
    bus = TransactionalConsumer(kafka, "interactions", 0, [topic])

    def polled() -> Batch | None:
        return bus.poll(20, 0.5)

    batch = eventually(polled)
    other = clients.group_consumer(kafka, "interactions", 1)
    other.subscribe([topic])

    def joined() -> bool:
        other.poll(0.1)
        try:
            bus.keep_alive(0.3, batch)
        except Aborted:
            return True
        return False

    eventually(joined, 30, "the other member to take a partition")
    bus.restart()
    other.close()
    seen: set[tuple[int, int]] = set()

    def all_read() -> bool:
        found = bus.poll(100, 0.5)
        seen.update((record.partition(), record.offset()) for record in (found.records if found else []))
        return len(seen) == 200

    eventually(all_read, 60, "all records of both partitions")
    bus.close()


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
