"""A deployment for tests of the stream: items with random vectors, events, and outputs read as they come."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Message

from deployment import Deployment
from support import eventually
from upwell.bus.reader import LogReader
from upwell.bus.topics import Topic
from upwell.events.codec import encode
from upwell.events.contracts import Interaction, ItemFeatures, Ranking

DIMENSION = 16
START_MS = 1_700_000_000_000


class Log:
    """What has been read of a topic so far."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.records: list[Message] = []

    def until(self, done: Callable[[list[Message]], bool], timeout: float = 60.0) -> list[Message]:
        """Read on until `done` says so; returns all records read since the beginning."""
        eventually(lambda: done(self.more()), timeout, f"records on {self._reader.topic}", every=0.0)
        return self.records

    def more(self) -> list[Message]:
        """Read what has come; returns all records read since the beginning."""
        self.records += self._reader.read(1000, 0.1)
        return self.records

    def to_end(self) -> list[Message]:
        """Everything there is now."""
        for batch in self._reader.to_end():
            self.records += batch
        return self.records


class Stream(Deployment):
    def send(self, topic: str, key: str | bytes | None, value: msgspec.Struct | bytes | None, **more: Any) -> None:
        """Queue one record; `flush` waits for it."""
        raw = encode(value) if isinstance(value, msgspec.Struct) else value
        self.producer.produce(self.topic(topic), raw, key.encode() if isinstance(key, str) else key, **more)
        self.producer.poll(0)

    def features(self, count: int, seed: int = 7) -> list[str]:
        """`count` items with random unit vectors, straight onto `item-features`; returns their ids."""
        rng = np.random.default_rng(seed)
        ids = [f"i{number}" for number in range(count)]
        for number, item in enumerate(ids):
            self.feature(item, rng.normal(size=DIMENSION), [f"c{number % 3}"])
        self.flush()
        return ids

    def feature(self, item: str, vector: np.ndarray[Any, Any], categories: list[str]) -> None:
        unit = (vector / np.linalg.norm(vector)).astype("<f4")
        record = ItemFeatures(item, unit.tobytes(), "test-1", f"Title {item}", categories)
        self.send(Topic.ITEM_FEATURES, item, record)

    def event(self, number: int, user: str, item: str, kind: str = "click", **more: Any) -> None:
        event = Interaction(f"e{number}", user, kind, START_MS + number * 1000, item, **more)
        self.send(Topic.INTERACTIONS, user, event)

    @contextmanager
    def reading(self, topic: str) -> Iterator[Log]:
        """Everything committed on a topic, from its beginning, read as it comes."""
        reader = LogReader(self.settings.kafka, self.topic(topic), "test")
        try:
            yield Log(reader)
        finally:
            reader.close()


class Asker:
    """One user who asks for a ranking again and again."""

    def __init__(self, stream: Stream, log: Log, user: str = "ann") -> None:
        self._stream, self._log, self._user = stream, log, user
        self._asked = 0

    def slate(self) -> list[str]:
        """The items of the answer to a new request."""
        return [item.item_id for item in self.ask().items]

    def ask(self, context: dict[str, Any] | None = None) -> Ranking:
        """The answer to a new request."""
        self._asked += 1
        before = len(self._published())
        event_id = f"{self._user}{self._asked}"
        self._stream.produce(
            Topic.INTERACTIONS,
            self._user,
            {"event_id": event_id, "user_id": self._user, "type": "rank_request", "ts": START_MS, "context": context},
        )
        self._stream.flush()
        self._log.until(lambda _: len(self._published()) > before)
        return self._published()[-1]

    def until(self, wanted: Callable[[list[str]], bool], message: str) -> list[str]:
        """Ask until the slate is as wanted."""
        held: list[list[str]] = []

        def asked() -> bool:
            held.append(self.slate())
            return wanted(held[-1])

        eventually(asked, message=message)
        return held[-1]

    def _published(self) -> list[Ranking]:
        return rankings(self._log.records).get(self._user, [])


def rankings(records: list[Message]) -> dict[str, list[Ranking]]:
    found: dict[str, list[Ranking]] = defaultdict(list)
    for record in records:
        ranking = msgspec.json.decode(record.value(), type=Ranking)
        found[ranking.user_id].append(ranking)
    return found


def assert_numbering(by_user: dict[str, list[Ranking]]) -> None:
    """Guarantee 9, as a reader sees it."""
    for published in by_user.values():
        last = (0, 0, 0)
        for ranking in published:
            now = (ranking.generation, ranking.version, ranking.revision)
            assert now > last, f"{ranking.user_id}: {now} after {last}"
            assert ranking.version == last[1] + ranking.events, f"{ranking.user_id}: {now} after {last}"
            last = now


def total(records: list[Message]) -> int:
    return sum(published[-1].version for published in rankings(records).values())


def send_random(stream: Stream, ids: list[str], count: int, users: int = 40, start: int = 0) -> None:
    rng = random.Random(start)
    for number in range(start, start + count):
        stream.event(number, f"u{rng.randrange(users)}", rng.choice(ids))
    stream.flush()
