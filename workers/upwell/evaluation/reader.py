"""All topics of a run as committed records in, what an outsider knows of them out. One thread, one consumer, no group.

Frugal, because it shares the machine with what it measures: batches, slim decoding, columns instead of objects.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message

from upwell.bus import clients, topics
from upwell.bus.headers import headers
from upwell.bus.topics import INPUTS, TRIGGERS, Topic
from upwell.evaluation.verify import Numbering, Observed
from upwell.events.contracts import Content
from upwell.settings import Kafka

log = structlog.get_logger("upwell.evaluation")

BATCH = 5_000
IDLE_S = 0.2
RECENT = 4
"""Last interactions kept per user, for people to see."""

Place = tuple[str, int]
"""Real topic name and partition."""


class _Event(msgspec.Struct, gc=False):
    event_id: str
    user_id: str
    type: str = ""


class _Ranking(msgspec.Struct, gc=False):
    user_id: str
    generation: int
    version: int
    revision: int
    events: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused, by the headers of its dead letter."""

    topic: str
    partition: int
    offset: int
    step: str
    reason: str


@dataclass
class Watched:
    """What people look at while a run goes on: raw records by user, decoded only when shown."""

    interactions: dict[str, deque[bytes]] = field(default_factory=dict)
    rankings: dict[str, bytes] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    latest: str = ""
    """The user of the newest interaction."""


class Reader:
    """Reads the topics of a run from their beginnings, in a thread of its own. Fields are for reading by others."""

    def __init__(self, kafka: Kafka, *, watch: bool = False) -> None:
        """`watch`: keep the newest records of every user for a live view."""
        self.numbering = Numbering()
        self.observed = Observed()
        self.contents: list[Content] = []
        self.dead_letters: list[DeadLetter] = []
        self.features: set[str] = set()
        """Keys of `item-features` that are not deleted."""
        self.records: Counter[str] = Counter()
        """Data records by canonical topic."""
        self.ends: dict[Place, int] = {}
        """Offset after the last data record that was read; markers of transactions do not count."""
        self.read_to: dict[Place, int] = {}
        """Offset at which the end of the committed log was found last, markers included."""
        self.watched = Watched() if watch else None
        self.failure: Exception | None = None
        self._kafka = kafka
        self._stop = threading.Event()
        self._event = msgspec.json.Decoder(_Event).decode
        self._ranking = msgspec.json.Decoder(_Ranking).decode
        self._content = msgspec.json.Decoder(Content).decode
        self._names = {topics.real(kafka, topic): topic for topic in Topic if topic is not Topic.TRENDS}
        dead = {topics.dead_letters(topics.real(kafka, topic)) for topic in (*INPUTS, *TRIGGERS.values())}
        take: dict[str, Callable[[Message, int], None]] = {
            Topic.INTERACTIONS: self._on_interaction,
            Topic.RANKINGS: self._on_ranking,
            Topic.CONTENTS: self._on_content,
            Topic.ITEM_FEATURES: self._on_features,
        }
        self._take = {real: take.get(topic, self._on_other) for real, topic in self._names.items()}
        self._take |= dict.fromkeys(dead, self._on_dead_letter)
        self._thread = threading.Thread(target=self._run, name="outside-reader", daemon=True)

    @property
    def places(self) -> list[Place]:
        """All partitions that are read."""
        return list(self._places)

    def start(self) -> Reader:
        """Begin reading.

        Raises:
            Unavailable: a topic is not there.

        """
        self._consumer = clients.log_reader(self._kafka, "outside")
        found = [
            partition
            for name in self._take
            for partition in clients.all_partitions(self._consumer, name, OFFSET_BEGINNING)
        ]
        self._places = [(partition.topic, partition.partition) for partition in found]
        self._consumer.assign(found)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def dead_interactions(self) -> list[tuple[int, int]]:
        """(partition, offset) of interactions that ended in the dead letters."""
        name = topics.real(self._kafka, Topic.INTERACTIONS)
        return [(letter.partition, letter.offset) for letter in self.dead_letters if letter.topic == name]

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                # consume(n, t) waits for n records or for all of t: ask for one, then for what else is there.
                messages = self._consumer.consume(1, IDLE_S)
                if messages:
                    messages += self._consumer.consume(BATCH, 0)
                    received = time.time_ns() // 1_000_000
                    for message in messages:
                        self._one(message, received)
        except Exception as error:  # said by whoever waits for this reader
            self.failure = error
        finally:
            self._consumer.close()

    def _one(self, message: Message, received: int) -> None:
        error = message.error()
        place = (message.topic(), message.partition())
        if error is None:
            self.ends[place] = message.offset() + 1
            self._take[place[0]](message, received)
        elif error.code() == KafkaError._PARTITION_EOF:
            self.read_to[place] = message.offset()
        else:
            log.warning("reader.error", error=error.str())

    def _on_interaction(self, message: Message, _received: int) -> None:
        self.records[Topic.INTERACTIONS] += 1
        raw = message.value() or b""
        try:
            event = self._event(raw)
        except (ValueError, RecursionError):
            return
        self.observed.event(
            event.user_id, event.event_id, event.type, message.timestamp()[1], message.partition(), message.offset()
        )
        if self.watched is not None:
            self.watched.latest = event.user_id
            self.watched.interactions.setdefault(event.user_id, deque(maxlen=RECENT)).append(raw)

    def _on_ranking(self, message: Message, received: int) -> None:
        self.records[Topic.RANKINGS] += 1
        raw = message.value()
        if raw is None:
            return
        ranking = self._ranking(raw)
        self.numbering.add(ranking.user_id, ranking.generation, ranking.version, ranking.revision, ranking.events)
        self.observed.ranking(ranking.user_id, ranking.version, received)
        if self.watched is not None:
            self.watched.rankings[ranking.user_id] = raw

    def _on_content(self, message: Message, _received: int) -> None:
        self.records[Topic.CONTENTS] += 1
        raw = message.value()
        if raw is None:
            return
        content = self._content(raw)
        self.contents.append(content)
        if self.watched is not None:
            self.watched.contents[content.user_id] = content

    def _on_features(self, message: Message, _received: int) -> None:
        self.records[Topic.ITEM_FEATURES] += 1
        key = (message.key() or b"").decode("utf-8", "replace")
        if message.value() is None:
            self.features.discard(key)
        else:
            self.features.add(key)

    def _on_dead_letter(self, message: Message, _received: int) -> None:
        self.records["dead-letters"] += 1
        said = {name: value.decode("utf-8", "replace") for name, value in headers(message) if value is not None}
        self.dead_letters.append(
            DeadLetter(
                said.get("upwell-topic", ""),
                int(said.get("upwell-partition", -1)),
                int(said.get("upwell-offset", -1)),
                said.get("upwell-step", ""),
                said.get("upwell-reason", ""),
            )
        )

    def _on_other(self, message: Message, _received: int) -> None:
        self.records[self._names[message.topic()]] += 1
