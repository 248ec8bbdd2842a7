"""The trends worker as the real command: committed statistics only, exact counts across crashes, prompt commits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from deployment import Deployment, Worker, deployed, header
from support import eventually
from upwell.bus import clients
from upwell.events.codec import decode, encode
from upwell.events.contracts import STATISTICS_VERSION, CategoryCount, ItemCount, Statistics, Trend
from upwell.local.stack import Stack
from upwell.ranking import trend

pytestmark = pytest.mark.integration

HOUR = 3_600_000
DAY = 24 * HOUR
START = 10_000 * DAY


@dataclass
class Source:
    """Writes `statistics` as an interactions worker does, and knows what was committed."""

    deployment: Deployment
    expected: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.producer: Producer = clients.transactional_producer(self.deployment.settings.kafka, "source", 0)
        self.producer.init_transactions(30)
        self._random = random.Random(7)

    def send(
        self, items: Iterable[ItemCount], categories: Iterable[CategoryCount] = (), *, commit: bool = True
    ) -> None:
        record = Statistics(0, list(items), list(categories), START)
        self.producer.begin_transaction()
        self.producer.produce(self.deployment.topic("statistics"), encode(record), b"0")
        # An aborted record must have been in the log.
        assert self.producer.flush(30) == 0
        if not commit:
            self.producer.abort_transaction(30)
            return
        self.producer.commit_transaction(30)
        for item in record.items:
            self.expected[f"item:{item.item_id}", item.window - item.window % DAY] += item.events
        for category in record.categories:
            self.expected[f"category:{category.category}", category.window - category.window % DAY] += category.events

    def send_some(self, records: int) -> None:
        for _ in range(records):
            draw = self._random
            items = [
                ItemCount(str(draw.randrange(50)), START + draw.randrange(3 * 24) * HOUR, draw.randint(1, 3), 1.0)
                for _ in range(20)
            ]
            self.send(items, [CategoryCount("horror", START, 5, 2.5)], commit=draw.random() > 0.2)


@pytest.fixture
def here(stack: Stack, prefix: str) -> Iterator[Deployment]:
    with deployed(stack, prefix, kafka={"partitions": 1}, trends={"publish_s": 0.2}) as deployment:
        yield deployment


def drained(here: Deployment) -> None:
    """The group has committed up to the very end of the log, transaction markers included."""
    here.drained("trends", "statistics")


def published(here: Deployment) -> dict[tuple[str, int], Trend]:
    """What an idempotent reader holds; fails where a sequence was given out for two different counts."""
    held: dict[tuple[str, int], Trend] = {}
    seen: dict[tuple[str, int, int], tuple[int, float]] = {}
    for message in here.read("trends"):
        found = decode(Trend, message.value())
        assert message.key().decode() == found.key
        assert seen.setdefault((found.key, found.window_start, found.sequence), (found.events, found.weight)) == (
            found.events,
            found.weight,
        )
        before = held.get((found.key, found.window_start))
        if before is None or before.sequence < found.sequence:
            held[found.key, found.window_start] = found
    return held


def counted(here: Deployment) -> dict[tuple[str, int], int]:
    return {key: found.events for key, found in published(here).items()}


def restart_after(worker: Worker) -> None:
    eventually(lambda: any(line["event"] == "trends.ready" for line in worker.lines()), 60)
    worker.kill()


def test_counts_per_key_and_window(here: Deployment) -> None:
    source = Source(here)
    source.send(
        [ItemCount("a", START, 4, 4.0), ItemCount("a", START + 23 * HOUR, 1, 2.0), ItemCount("b", START, 1, -2.0)],
        [CategoryCount("horror", START, 5, 6.0)],
    )
    source.send([ItemCount("a", START + DAY, 20, 20.0)])
    with here.worker("trends"):
        drained(here)
    held = published(here)
    assert counted(here) == source.expected
    first, second = held["item:a", START], held["item:a", START + DAY]
    assert (first.kind, first.window_end, first.events, first.weight) == ("item", START + DAY, 5, 6.0)
    assert second.score == trend.score(20.0, 6.0)
    assert held["item:b", START].score < 0
    assert held["category:horror", START].kind == "category"


def test_an_aborted_batch_is_never_counted(here: Deployment) -> None:
    source = Source(here)
    with here.worker("trends"):
        source.send([ItemCount("a", START, 1, 1.0)])
        source.send([ItemCount("a", START, 1000, 1000.0), ItemCount("ghost", START, 1, 1.0)], commit=False)
        source.send([ItemCount("a", START, 1, 1.0)])
        # The log ends with an aborted batch: also that is no lag.
        source.send([ItemCount("ghost", START, 1, 1.0)], commit=False)
        drained(here)
        # An open transaction holds back what comes after it, and nothing of it is seen.
        source.producer.begin_transaction()
        late = Statistics(0, [ItemCount("ghost", START, 1, 1.0)], [], START)
        source.producer.produce(here.topic("statistics"), encode(late), b"0")
        assert source.producer.flush(30) == 0
        source.producer.abort_transaction(30)
        drained(here)
    assert counted(here) == source.expected == {("item:a", START): 2}


def test_counts_are_exact_after_kill_9(here: Deployment) -> None:
    source = Source(here)
    source.send_some(20)
    for _ in range(2):
        with here.worker("trends") as worker:
            source.send_some(20)
            restart_after(worker)
    with here.worker("trends"):
        source.send_some(20)
        drained(here)
        source.send_some(5)
        drained(here)
    assert counted(here) == source.expected
    assert max(found.sequence for found in published(here).values()) > 1


def test_state_survives_a_restart_and_is_not_published_again(here: Deployment) -> None:
    source = Source(here)
    source.send_some(5)
    with here.worker("trends"):
        drained(here)
    before = len(here.read("trends"))
    with here.worker("trends"):
        source.send([ItemCount("0", START, 1, 1.0)])
        drained(here)
    assert counted(here) == source.expected
    # At least once: the new count may come twice under its one sequence; nothing else is published again.
    again = {(found.key, found.window_start) for found in map(trend_of, here.read("trends")[before:])}
    sequences = {found.sequence for found in map(trend_of, here.read("trends")[before:])}
    assert again == {("item:0", START - START % DAY)}
    assert len(sequences) == 1


def trend_of(message: Message) -> Trend:
    return decode(Trend, message.value())


def test_garbage_goes_to_the_dead_letters(here: Deployment) -> None:
    source = Source(here)
    with here.worker("trends"):
        garbage: list[bytes | None] = [
            b"\0\xff",
            b"",
            b"[]",
            b'{"shard":0,"items":[["a"]],"categories":[],"ts":1}',
            None,
        ]
        for raw in garbage:
            here.produce("statistics", b"0", raw)
        here.flush()
        source.send([ItemCount("nul\0", START, 1, 1.0)])
        drained(here)
    dead = here.read("statistics.dlq")
    assert sorted((message.value() or b"") for message in dead) == sorted(raw or b"" for raw in garbage)
    for message in dead:
        assert header(message, "upwell-topic") == here.topic("statistics")
        assert header(message, "upwell-step") == "decode"
        assert header(message, "upwell-reason")
    assert counted(here) == source.expected


def test_statistics_of_a_newer_release_are_not_counted(here: Deployment) -> None:
    source = Source(here)
    source.send([ItemCount("a", START, 1, 1.0)])
    newer = Statistics(0, [ItemCount("a", START, 1, 1.0)], [], START, state_version=STATISTICS_VERSION + 1)
    here.produce("statistics", b"0", encode(newer))
    here.flush()
    for _ in range(2):  # it is met again
        with here.worker("trends") as worker:
            assert worker.process.wait(60) == 2
            assert "a newer release writes it" in worker.log.read_text()
    assert all(events == 1 for events in counted(here).values())
    assert not here.read("statistics.dlq")


def test_a_killed_worker_leaves_no_files_behind(here: Deployment, tmp_path: Path) -> None:
    here.environment["TMPDIR"] = str(tmp_path)
    with here.worker("trends") as worker:
        restart_after(worker)
    assert list(tmp_path.iterdir()) == []


def test_a_second_worker_takes_over(here: Deployment) -> None:
    """Two workers, one partition: one counts, the other stands by and goes on where the first one left."""
    source = Source(here)
    with here.worker("trends", 0) as first:
        source.send_some(5)
        drained(here)
        with here.worker("trends", 1) as second:
            eventually(lambda: any(line["event"] == "trends.ready" for line in second.lines()), 60)
            source.send_some(5)
            assert first.stop() == 0
            source.send_some(5)
            drained(here)
    assert counted(here) == source.expected


def test_without_its_topic_it_says_what_to_do(stack: Stack, prefix: str) -> None:
    with deployed(stack, prefix) as here:
        for future in here.admin.delete_topics([here.topic("statistics")], operation_timeout=30).values():
            future.result()
        with here.worker("trends") as worker:
            assert worker.process.wait(60) == 3
            assert "topics create" in worker.log.read_text()
