"""A deployment's interactions in; those that count out: valid by the worker's own rules, each event once.

Reads a stretch of the topic as no member of any group, committed records only; nothing is written, no offset moves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException, TopicPartition

from upwell.bus import clients, topics
from upwell.bus.errors import Unavailable
from upwell.bus.reader import LogReader, bounds
from upwell.bus.topics import Topic
from upwell.events import validate
from upwell.events.contracts import ControlType, Interaction
from upwell.events.hashing import key64
from upwell.settings import Kafka, Settings

LAST: Final = 200_000
"""Interactions that are held at most, unless more are asked for: about 200 MB."""

Tick = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which interactions are meant: of those that the broker took in a time, the last ones."""

    since_ms: int | None = None
    until_ms: int | None = None
    """Exclusive."""
    last: int = LAST


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a stretch of the topic holds."""

    topic: str
    events: list[Interaction]
    """In the order in which the broker took them."""
    logged: list[int]
    """When it did, ms."""
    read: int = 0
    """Records that were looked at."""
    refused: int = 0
    """Of these, those that break the contract."""
    repeats: int = 0
    """Of these, those that repeat an event."""

    def told(self) -> str:
        return (
            f"{len(self.events):,} interactions of {self.topic}: {self.read:,} records read, {self.refused:,} of them "
            f"invalid, {self.repeats:,} repeated an event"
        )


def recorded(settings: Settings, stretch: Stretch = Stretch(), tick: Tick = lambda *_: None) -> Recorded:
    """The preferences in a stretch of `interactions`; control events are none.

    An event that comes again counts where it came first within the stretch. Log time decides what is in it, as it does
    for the workers' dedupe window: event times may lie years back.

    Raises:
        Unavailable: the broker does not answer, or the topic is not there.
        Inconsistent: records were deleted while they were being read.
    """
    kafka = settings.kafka
    topic = topics.real(kafka, Topic.INTERACTIONS)
    begin, total = starts(kafka, topic, stretch)
    rules = validate.Rules.of(settings)
    latest = rules.latest()
    newest: list[tuple[int, int, int, Interaction]] = []
    known: set[int] = set()
    read = refused = repeats = 0
    reader = LogReader(kafka, topic, "recorded", begin)
    try:
        for messages in reader.to_end():
            for message in messages:
                logged = message.timestamp()[1]
                if not (stretch.since_ms or 0) <= logged < (stretch.until_ms or logged + 1):
                    continue
                read += 1
                try:
                    event = validate.interaction(message.key(), message.value(), rules, latest)
                except validate.InvalidRecord:
                    refused += 1
                    continue
                if event.type == ControlType.RANK_REQUEST:
                    continue
                if (event_key := key64(f"{event.user_id}\x1f{event.event_id}")) in known:
                    repeats += 1
                    continue
                known.add(event_key)
                place = (logged, message.partition(), message.offset(), event)
                (heapq.heappushpop if len(newest) >= stretch.last else heapq.heappush)(newest, place)
            tick("interactions", min(read, total), total)
    finally:
        reader.close()
    newest.sort(key=lambda place: place[:3])
    return Recorded(
        topic, [event for *_, event in newest], [logged for logged, *_ in newest], read, refused, repeats
    )  # fmt: skip


def starts(kafka: Kafka, topic: str, stretch: Stretch) -> tuple[dict[int, int], int]:
    """First offset of each partition that may be in the stretch, and how many offsets follow in all."""
    consumer = clients.log_reader(kafka, "recorded")
    try:
        places = clients.all_partitions(consumer, topic, stretch.since_ms or 0)
        begins = {place.partition: 0 for place in places}
        if stretch.since_ms is not None:
            asked = [TopicPartition(p.topic, p.partition, p.offset) for p in places]
            # -1: nothing was taken since.
            begins = {place.partition: place.offset for place in consumer.offsets_for_times(asked, 30.0)}
    except KafkaException as error:
        raise Unavailable(f"cannot find the offsets of {topic}: {error.args[0].str()}") from error
    finally:
        consumer.close()
    found: dict[int, int] = {}
    total = 0
    for partition, begin in begins.items():
        low, high = bounds(kafka, topic, partition)
        first = high if begin < 0 else max(low, begin)
        if stretch.until_ms is None:
            # No more than the last ones of a partition can be among the last ones of all.
            first = max(first, high - stretch.last)
        found[partition] = first
        total += high - first
    return found, total
