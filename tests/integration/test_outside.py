"""Reading a run from outside, on a real broker: what is committed counts, what is open or aborted does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from support import eventually
from upwell.bus import clients, topics
from upwell.bus.consumer import TransactionalConsumer
from upwell.bus.topics import Topic
from upwell.bus.transactions import Output
from upwell.evaluation.drain import Drain
from upwell.evaluation.reader import Reader
from upwell.evaluation.verify import judge
from upwell.events.codec import encode
from upwell.events.contracts import Interaction
from upwell.local.publisher import Publisher
from upwell.local.stack import Stack
from upwell.settings import Kafka

pytestmark = pytest.mark.integration


@pytest.fixture
def kafka(stack: Stack, prefix: str) -> Kafka:
    settings = Kafka(
        bootstrap_servers=stack.endpoints().kafka, topic_prefix=prefix, group_prefix=prefix.rstrip("_"), partitions=2
    )
    topics.create(settings, clients.admin(settings))
    return settings


@pytest.fixture
def reader(kafka: Kafka) -> Iterator[Reader]:
    reader = Reader(kafka, watch=True).start()
    yield reader
    reader.stop()
    assert reader.failure is None


def events(users: int, each: int) -> list[tuple[bytes, bytes]]:
    return [
        (f"u{user}".encode(), encode(Interaction(f"e{user}-{nth}", f"u{user}", "click", 1_700_000_000_000 + nth, "i")))
        for nth in range(each)
        for user in range(users)
    ]


def ranking(user: str, version: int, count: int) -> bytes:
    numbers = {"generation": 0, "version": version, "revision": 0, "events": count}
    return encode({"ranking_id": f"{user}-{version}", "user_id": user, **numbers, "items": []})


def rank_everything(kafka: Kafka, wanted: int) -> None:
    """A small worker: one ranking per user and batch, in the transaction that commits the input."""
    worker = TransactionalConsumer(kafka, "interactions", 0, [topics.real(kafka, Topic.INTERACTIONS)])
    versions: dict[str, int] = {}
    done = 0
    while done < wanted:
        batch = worker.poll(1000, 1.0)
        if batch is None:
            continue
        touched: dict[str, int] = {}
        for record in batch.records:
            user = record.key().decode()
            touched[user] = touched.get(user, 0) + 1
        for user, count in touched.items():
            versions[user] = versions.get(user, 0) + count
        outputs = [
            Output(topics.real(kafka, Topic.RANKINGS), user.encode(), ranking(user, versions[user], count))
            for user, count in touched.items()
        ]
        worker.commit(batch, outputs)
        done += len(batch.records)
    worker.close()


def test_a_whole_run_is_counted_and_found_drained(kafka: Kafka, reader: Reader) -> None:
    drain = Drain(kafka, reader)
    publisher = Publisher(kafka, topics.real(kafka, Topic.INTERACTIONS), events(users=20, each=50))
    publisher.start()

    eventually(lambda: publisher.finished and reader.records[Topic.INTERACTIONS] == 1000)
    assert drain.standings()["interactions"].lag == 1000
    assert not drain.drained()

    rank_everything(kafka, 1000)
    eventually(drain.drained)

    expected, repeats = reader.observed.counted()
    assert (expected, repeats) == ({f"u{user}": 50 for user in range(20)}, 0)
    verdict = judge(expected, reader.numbering, expected)
    assert (verdict.lost, verdict.duplicated) == (0, 0)
    waits = reader.observed.latencies()
    assert len(waits) == 1000
    assert (waits >= 0).all()
    assert reader.watched is not None
    assert set(reader.watched.rankings) == set(expected)


def test_open_and_aborted_transactions_are_neither_read_nor_drained(kafka: Kafka, reader: Reader) -> None:
    drain = Drain(kafka, reader)
    eventually(drain.drained, message="nothing was ever published")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": kafka.topic_prefix})
    producer.init_transactions()
    name = topics.real(kafka, Topic.RANKINGS)

    producer.begin_transaction()
    producer.produce(name, ranking("u", 1, 1), "u")
    producer.flush()
    assert not drain.drained()
    producer.abort_transaction()
    eventually(drain.drained, message="the end of a log may be the marker of an aborted transaction")
    assert reader.records[Topic.RANKINGS] == 0

    producer.begin_transaction()
    producer.produce(name, ranking("u", 1, 1), "u")
    producer.produce(name, ranking("u", 3, 1), "u")
    producer.commit_transaction()
    eventually(drain.drained)
    assert (reader.records[Topic.RANKINGS], reader.numbering.lost) == (2, 1)


def test_speed_is_kept_and_stopping_drops_the_rest(kafka: Kafka, reader: Reader) -> None:
    publisher = Publisher(kafka, topics.real(kafka, Topic.INTERACTIONS), events(users=10, each=10_000), speed=500)
    publisher.start()
    eventually(lambda: reader.records[Topic.INTERACTIONS] >= 100)
    publisher.stop()

    assert not publisher.finished
    assert publisher.failure is None
    assert 100 <= publisher.sent < 50_000
