"""The interactions worker on real Kafka and Postgres: numbering, exactly once, takeover, dead letters, re-issues."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from deployment import Worker, header
from stream import DIMENSION, START_MS, Stream, assert_numbering, rankings, send_random, total
from support import eventually
from upwell.bus import clients
from upwell.bus.topics import Topic
from upwell.events.contracts import ContentTrigger, Interaction, ItemFeatures, Ranking, Statistics
from upwell.interactions import lessons
from upwell.local.stack import Stack
from upwell.ranking.learner import Tuning
from upwell.ranking.profile import EMPTY_BASE, add, decay
from upwell.store import arrays

pytestmark = pytest.mark.integration

HALF_LIFE_MS = 60 * 86_400_000


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    """Small batches and frequent flushes, so that a crash finds something unfinished."""
    groups = {
        "kafka": {"batch_max_records": 50},
        "profiles": {"flush_ms": 100},
        "ranking": {"reissue_ms": 400},
    }
    made = Stream(stack, prefix, **groups)
    try:
        yield made
    finally:
        made.close()


def test_rankings_follow_events_and_profiles_follow_them(stream: Stream) -> None:
    ids = stream.features(50)
    send_random(stream, ids, 2000)
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        records = log.until(lambda found: total(found) == 2000)
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(2000,)])
    assert_numbering(rankings(records))
    latest = rankings(records)["u7"][-1]
    assert len({item.item_id for item in latest.items}) == 10
    assert [item.score for item in latest.items] == sorted((item.score for item in latest.items), reverse=True)
    assert any(reason.kind == "similar" and reason.item_id for item in latest.items for reason in item.reasons)


def test_a_click_leaves_the_ranking_and_moves_it(stream: Stream) -> None:
    ids = stream.features(50)
    stream.event(1, "ann", ids[0])
    stream.flush()
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        first = rankings(log.until(lambda found: total(found) == 1))["ann"][-1]
        chosen = first.items[0].item_id
        stream.event(2, "ann", chosen)
        stream.flush()
        second = rankings(log.until(lambda found: total(found) == 2))["ann"][-1]
    assert chosen not in [item.item_id for item in second.items]
    assert [item.item_id for item in first.items[1:]] != [item.item_id for item in second.items[:9]]
    assert any(reason.item_id == chosen for item in second.items for reason in item.reasons)


def test_new_users_and_no_items_get_a_ranking_too(stream: Stream) -> None:
    stream.event(1, "ann", "nothing-known")
    stream.flush()
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        empty = rankings(log.until(lambda found: total(found) == 1))["ann"][0]
        assert empty.items == []
        stream.features(20)
        number = 0

        def asked() -> Ranking | None:
            nonlocal number
            number += 1
            ask(stream, "bob", number)
            found = rankings(log.until(lambda records: len(rankings(records).get("bob", [])) >= number))["bob"]
            return found[-1] if len(found[-1].items) == 10 else None  # partitions arrive one after the other

        answer = eventually(asked, message="a slate for a new user")
    assert (answer.version, answer.events, answer.trigger) == (0, 0, "rank_request")
    assert answer.revision == number
    assert len(answer.items) == 10


def test_an_event_counts_at_once_and_contributes_when_its_item_arrives(stream: Stream) -> None:
    stream.features(10)
    stream.event(1, "ann", "late")
    stream.flush()

    def norm() -> float | None:
        rows = stream.rows("SELECT vector_send(vector) FROM profiles WHERE user_id = 'ann' AND version = 1")
        return float(np.linalg.norm(arrays.vector(rows[0][0]))) if rows else None

    with stream.worker("interactions"):
        eventually(lambda: norm() == 0)
        stream.feature("late", np.random.default_rng(1).normal(size=DIMENSION), [])
        stream.flush()
        eventually(lambda: (norm() or 0) > 0, message="the vector to be added")


def test_items_that_never_come_take_no_more_memory_than_is_set_and_one_that_comes_contributes(
    stack: Stack, prefix: str
) -> None:
    stream = Stream(stack, prefix, ranking={"unknown_items": 1}, profiles={"flush_ms": 100})

    def norm() -> float | None:
        rows = stream.rows("SELECT vector_send(vector) FROM profiles WHERE user_id = 'ann' AND version = 20")
        return float(np.linalg.norm(arrays.vector(rows[0][0]))) if rows else None

    try:
        stream.features(10)
        for number in range(20):
            stream.event(number, "ann", f"unknown {number}")
        stream.flush()
        with stream.worker("interactions"):
            eventually(lambda: norm() == 0, message="all events to count")
            eventually(lambda: learned(stream) == 1, message="what the first one teaches to be told")
            stream.feature("unknown 7", np.random.default_rng(1).normal(size=DIMENSION), [])
            stream.flush()
            eventually(lambda: (norm() or 0) > 0, message="the vector to be added")
        assert learned(stream) == 1
    finally:
        stream.close()


def test_duplicates_are_dropped(stream: Stream) -> None:
    ids = stream.features(20)
    for _ in range(3):
        for number in range(100):
            stream.event(number, f"u{number % 5}", ids[number % 20])
    stream.flush()
    with stream.worker("interactions"):
        stream.drained("interactions", Topic.INTERACTIONS)
    with stream.reading(Topic.RANKINGS) as log:
        records = log.to_end()
    assert total(records) == 100
    assert_numbering(rankings(records))
    assert counted(stream) == 100


def test_kill_and_restart_loses_and_doubles_nothing(stream: Stream) -> None:
    """Killed again and again at random moments; the profiles have the bits of an undisturbed computation."""
    ids = stream.features(50)
    rng = random.Random(5)
    sent = 0
    with stream.reading(Topic.RANKINGS) as log:
        for _ in range(4):
            with stream.worker("interactions") as worker:
                send_random(stream, ids, 1500, start=sent)
                sent += 1500
                aim = rng.randrange(sent - 1400, sent - 300)
                log.until(lambda found, aim=aim: total(found) >= aim)
                worker.kill()
        with stream.worker("interactions") as worker:
            taken(worker)
            records = log.until(lambda found: total(found) == sent)
            eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(sent,)])
    assert_numbering(rankings(records))
    expected = expected_profiles(stream)
    for user_id, base, stored in stream.rows("SELECT user_id, base, vector_send(vector) FROM profiles"):
        vector, want_base = expected[user_id]
        assert base == want_base
        assert arrays.vector(stored).tobytes() == vector.tobytes(), f"{user_id}: other bits"
    assert counted(stream) == sent


def test_partitions_move_between_workers_without_loss(stream: Stream) -> None:
    ids = stream.features(50)
    send_random(stream, ids, 2000)
    with stream.worker("interactions", 0) as first, stream.reading(Topic.RANKINGS) as log:
        log.until(lambda found: total(found) >= 500)
        with stream.worker("interactions", 1) as second:
            taken(second)
            send_random(stream, ids, 2000, start=2000)
            log.until(lambda found: total(found) >= 2500)
            first.kill()
            records = log.until(lambda found: total(found) == 4000)
            eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(4000,)])
    assert_numbering(rankings(records))


def test_garbage_goes_to_the_dead_letters_and_the_rest_goes_on(stream: Stream) -> None:
    ids = stream.features(20)
    bad: list[tuple[bytes | None, bytes | None]] = [
        (b"ann", b"\x00\xff\xfe garbage"),
        (b"ann", b'{"event_id": 7, "user_id": "ann", "type": "click", "ts": 1}'),
        (b"ann", b'{"event_id":"x1","user_id":"ann","type":"rating","ts":1700000000000,"item_id":"i1","value":1e400}'),
        (b"ann", b'{"event_id":"x2","user_id":"ann","type":"click","ts":1700000000000}'),
        (b"ann", b'{"event_id":"x3","user_id":"ann","type":"nonsense","ts":1700000000000,"item_id":"i1"}'),
        (b"ann", b'{"event_id":"x4","user_id":"ann","type":"click","ts":99999999999999,"item_id":"i1"}'),
        (b"ann", b'{"event_id":"x5","user_id":"ann","type":"click","ts":-5,"item_id":"i1"}'),
        (b"ann", b'{"event_id":"x6","user_id":"ann","type":"click","ts":1700000000000,"item_id":"i\\u0000"}'),
        (b"bob", b'{"event_id":"x7","user_id":"ann","type":"click","ts":1700000000000,"item_id":"i1"}'),
        (b"ann", None),
        (
            b"ann",
            b'{"event_id":"x8","user_id":"ann","context":{"a":"' + b"x" * 5_000_000 + b'"},"type":"click","ts":1}',
        ),
        (b"ann", b'{"event_id":"x9","user_id":"ann","type":"erase","ts":1700000000000}'),
    ]
    for number, (key, value) in enumerate(bad):
        stream.send(Topic.INTERACTIONS, key, value, headers=[("traceparent", b"00-1-2-01")])
        stream.event(number, "ann", ids[number])
    stream.flush()
    with (
        stream.worker("interactions"),
        stream.reading(f"{Topic.INTERACTIONS}.dlq") as dead,
        stream.reading(Topic.RANKINGS) as log,
    ):
        letters = dead.until(lambda found: len(found) >= len(bad))
        records = log.until(lambda found: total(found) == len(bad))
    assert_numbering(rankings(records))
    assert sorted(letter.value() or b"" for letter in letters) == sorted(value or b"" for _, value in bad)
    for letter in letters:
        assert header(letter, "upwell-topic") == stream.topic(Topic.INTERACTIONS)
        assert int(header(letter, "upwell-offset")) >= 0
        assert int(header(letter, "upwell-partition")) >= 0
        assert header(letter, "upwell-step") in {"decode", "validate"}
        assert header(letter, "upwell-reason")
        assert header(letter, "traceparent") == "00-1-2-01"


def test_a_deleted_item_leaves_published_rankings(stream: Stream) -> None:
    ids = stream.features(30)
    for number in range(20):
        stream.event(number, f"u{number}", ids[number])
    stream.flush()
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        records = log.until(lambda found: total(found) == 20)
        gone = rankings(records)["u3"][-1].items[0].item_id
        holders = {user for user, published in rankings(records).items() if gone in shown(published[-1])}
        stream.send(Topic.ITEM_FEATURES, gone, None)
        stream.flush()
        records = log.until(lambda found: all(gone not in shown(rankings(found)[user][-1]) for user in holders))
    assert_numbering(rankings(records))
    latest = rankings(records)["u3"][-1]
    assert (latest.trigger, latest.revision, latest.events) == ("item_deleted", 1, 0)


def test_offsets_moved_back_publish_revisions_and_apply_nothing_twice(stream: Stream) -> None:
    ids = stream.features(30)
    send_random(stream, ids, 300, users=5)
    with stream.reading(Topic.RANKINGS) as log:
        with stream.worker("interactions"):
            log.until(lambda found: total(found) == 300)
        rewind(stream)
        with stream.worker("interactions"):
            log.until(lambda found: moved(found) == {f"u{n}" for n in range(5)})
            send_random(stream, ids, 50, users=5, start=300)
            records = log.until(lambda found: total(found) == 350)
            eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(350,)])
    assert_numbering(rankings(records))


def test_head_changes_cause_triggers_with_their_evidence(stream: Stream) -> None:
    ids = stream.features(30)
    for number in range(8):
        stream.event(number, "ann", ids[number])
    stream.flush()
    with (
        stream.worker("interactions"),
        stream.reading(Topic.TRIGGERS_NORMAL) as triggers,
        stream.reading(Topic.RANKINGS) as log,
    ):
        trigger = msgspec.json.decode(triggers.until(bool)[0].value(), type=ContentTrigger)
        published = rankings(log.until(lambda found: total(found) == 8))["ann"]
    cause = next(ranking for ranking in published if ranking.ranking_id == trigger.cause)
    assert trigger.item_id == cause.items[0].item_id
    assert trigger.kind == "head_changed"
    assert trigger.because
    assert set(trigger.because) <= set(ids[:8])
    assert trigger.framing in {"similar", "recent"}


def test_another_topic_of_the_same_name_stops_the_worker(stream: Stream) -> None:
    ids = stream.features(10)
    send_random(stream, ids, 20, users=3)
    with stream.worker("interactions"):
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(20,)])
    stream.execute("UPDATE watermark SET topic_id = 'older'")
    with stream.worker("interactions") as worker:
        assert worker.process.wait(60) == 2
        assert "upwell rebase" in worker.log.read_text()


def shown(ranking: Ranking) -> list[str]:
    return [item.item_id for item in ranking.items]


def moved(records: list[Message]) -> set[str]:
    return {
        user
        for user, published in rankings(records).items()
        if any(ranking.trigger == "position_moved" for ranking in published)
    }


def counted(stream: Stream) -> int:
    """Events that shared learning was told of."""
    with stream.reading(Topic.STATISTICS) as log:
        records = [msgspec.json.decode(record.value(), type=Statistics) for record in log.to_end()]
    return sum(count.events for record in records for count in record.items)


def taken(worker: Worker) -> None:
    """Wait until the worker owns a partition."""
    eventually(lambda: any(line["event"] == "partition.taken" for line in worker.lines()))


def ask(stream: Stream, user: str, number: int) -> None:
    stream.send(Topic.INTERACTIONS, user, Interaction(f"ask-{number}", user, "rank_request", START_MS))
    stream.flush()


def expected_profiles(stream: Stream) -> dict[str, tuple[NDArray[np.float32], int]]:
    """Profiles from the topics alone, one event after the other."""
    with stream.reading(Topic.ITEM_FEATURES) as log:
        features = [msgspec.json.decode(record.value(), type=ItemFeatures) for record in log.to_end()]
    vectors = {item.item_id: np.frombuffer(item.vector, "<f4") for item in features}
    users: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
    with stream.reading(Topic.INTERACTIONS) as log:
        for record in log.to_end():
            event = msgspec.json.decode(record.value(), type=Interaction)
            sums, bases = users.setdefault(
                event.user_id, (np.zeros((1, DIMENSION), np.float32), np.array([EMPTY_BASE], np.int64))
            )
            assert event.item_id is not None
            base, factor = decay(event.ts, HALF_LIFE_MS)
            add(sums, bases, 0, vectors[event.item_id], 1.0, base, factor)
    return {user: (sums[0], int(bases[0])) for user, (sums, bases) in users.items()}


def rewind(stream: Stream) -> None:
    """What `kafka-consumer-groups --reset-offsets --to-earliest` does."""
    topic = stream.topic(Topic.INTERACTIONS)
    group = clients.group_id(stream.settings.kafka, "interactions")
    offsets = [TopicPartition(topic, number, 0) for number in range(stream.settings.kafka.partitions)]

    def done() -> bool:
        request = ConsumerGroupTopicPartitions(group, offsets)
        try:
            answer = stream.admin.alter_consumer_group_offsets([request])[group].result().topic_partitions
        except KafkaException:
            return False
        return all(partition.error is None for partition in answer)

    eventually(done, 30, "the static member's session to end")


@pytest.fixture
def learning(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(stack, prefix, statistics={"snapshot_s": 0.2}, profiles={"flush_ms": 100})
    try:
        yield made
    finally:
        made.close()


def test_what_users_take_after_what_is_learned_by_all_and_outlives_a_worker(learning: Stream) -> None:
    """Half of the users take b right after a; whoever takes a is shown b, and why, also by a worker started anew."""
    stream = learning
    ids = stream.features(60)
    a, b = ids[:2]
    number = 0

    def take(user: str, item: str) -> None:
        nonlocal number
        number += 1
        stream.event(number, user, item)

    chance = random.Random(5)
    for user in range(40):
        for item in (a, b) if user % 2 else chance.sample(ids[2:], 2):
            take(f"u{user}", item)
    stream.flush()
    with stream.reading(Topic.RANKINGS) as log:
        with stream.worker("interactions"):
            assert_numbering(rankings(log.until(lambda found: total(found) == 80)))
            eventually(lambda: learned(stream) == 80, 30, "80 lessons are in the log")
            take("ann", a)
            stream.flush()
            first = rankings(log.until(lambda found: total(found) == 81))["ann"][-1].items[0]
            assert first.item_id == b
            assert [reason.item_id for reason in first.reasons if reason.kind == "similar"] == [a]
            eventually(lambda: stream.rows("SELECT next_offset FROM statistics_snapshots") != [], 30, "a snapshot")
        with stream.worker("interactions"):
            take("bob", a)
            stream.flush()
            assert rankings(log.until(lambda found: total(found) == 82))["bob"][-1].items[0].item_id == b


def learned(stream: Stream) -> int:
    """Lessons that are committed to the log."""
    found = [msgspec.json.decode(m.value(), type=Statistics) for m in stream.read(Topic.STATISTICS)]
    told = [lessons.read(range(len(one.lesson_items)), one.taught, Tuning(), 7) for one in found if one.taught]
    return sum(count for _, count in told)
