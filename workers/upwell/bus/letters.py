"""A topic's dead letters in; those that a person chose out, each with what became of it. Reading changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from upwell.bus import dead_letters, identity, reader, topics
from upwell.bus.dead_letters import Failure, number, text
from upwell.bus.headers import headers as headers_of
from upwell.bus.reader import LogReader
from upwell.bus.topics import Topic
from upwell.events.codec import decode
from upwell.events.contracts import Settlement
from upwell.settings import Kafka

READ = 200
"""Letters held at a time: one may have megabytes."""


class State(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    """Nothing yet."""
    REDRIVEN = "redriven"
    """Written back to its topic."""
    DROPPED = "dropped"
    """Given up."""


class Place(NamedTuple):
    """Of a letter in its dead-letter topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as its headers tell it; times in Unix ms. `partition` and `offset` are the original record's."""

    message: Message
    place: Place
    own: bool
    """Its headers say that it comes from this dead-letter topic's topic: else somebody else wrote it."""
    partition: int
    offset: int
    step: str
    reason: str
    attempts: int
    first_ms: int
    last_ms: int
    history: list[Failure]

    @classmethod
    def of(cls, message: Message, topic: str) -> Letter:
        """`topic`: real name of the topic whose dead letters are read."""
        told = dict(headers_of(message))
        return cls(
            message,
            Place(message.partition(), message.offset()),
            text(told.get("upwell-topic")) == topic and bool(told.get("upwell-partition")),
            number(told.get("upwell-partition")),
            number(told.get("upwell-offset")),
            text(told.get("upwell-step")),
            text(told.get("upwell-reason")),
            number(told.get("upwell-attempts")),
            number(told.get("upwell-first-ms")),
            # One that is not ours has the broker's time.
            number(told.get("upwell-last-ms")) or message.timestamp()[1],
            dead_letters.history(told.get("upwell-history")),
        )


@dataclass(frozen=True)
class Choice:
    """Which letters are meant: those that meet all that is given."""

    states: frozenset[State] = frozenset({State.OPEN})
    step: str | None = None
    reason: str | None = None
    """A part of the reason, in any case."""
    key: bytes | None = None
    since_ms: int | None = None
    """Last failed at this time or later."""
    until_ms: int | None = None
    """... and before this one."""
    attempts: int | None = None
    """Failed at most so often."""
    places: frozenset[Place] = frozenset()

    def takes(self, letter: Letter, state: State) -> bool:
        return (
            state in self.states
            and (self.step is None or letter.step == self.step)
            and (self.reason is None or self.reason.lower() in letter.reason.lower())
            and (self.key is None or letter.message.key() == self.key)
            and (self.since_ms is None or letter.last_ms >= self.since_ms)
            and (self.until_ms is None or letter.last_ms < self.until_ms)
            and (self.attempts is None or letter.attempts <= self.attempts)
            and (not self.places or letter.place in self.places)
        )


class Settled:
    """What became of one topic's dead letters, as of when this was read."""

    def __init__(self, kafka: Kafka, admin: AdminClient, topic: str) -> None:
        """`topic`: real name of the dead-letter topic.

        Raises:
            Unavailable: a topic is not there, or the broker does not answer.
        """
        self.topic = topic
        self.topic_id = identity.topic_id(admin, topic)
        self.log = topics.real(kafka, Topic.DLQ_SETTLED)
        self.outcomes: dict[Place, State] = {}
        self.stale: set[bytes] = set()
        """Keys of notes whose letters are gone."""
        lows = {p: reader.bounds(kafka, topic, p)[0] for p in identity.ends(admin, topic)}
        notes = LogReader(kafka, self.log, "dlq-settled")
        try:
            for batch in notes.to_end():
                for message in batch:
                    self._take(message, lows)
        finally:
            notes.close()

    def _take(self, message: Message, lows: dict[int, int]) -> None:
        key = message.key() or b""
        if not key.startswith(f"{self.topic}/".encode()):
            return
        if message.value() is None:
            self.stale.discard(key)
            return
        note = decode(Settlement, message.value())
        place = Place(note.partition, note.offset)
        if note.topic_id != self.topic_id or place.offset < lows.get(place.partition, 0):
            self.stale.add(key)
        else:
            self.outcomes[place] = State(note.outcome)

    def state(self, letter: Letter) -> State:
        return self.outcomes.get(letter.place, State.OPEN)

    def key(self, place: Place) -> bytes:
        """Key of the note about a letter."""
        return f"{self.topic}/{self.topic_id}/{place.partition}/{place.offset}".encode()


@dataclass(frozen=True)
class Box:
    """One topic's dead letters up to where they ended when this was made: later ones are not read."""

    kafka: Kafka
    canonical: Topic
    topic: str
    """Real name of the topic that the letters come from."""
    dead: str
    """... and of theirs."""
    ends: Mapping[int, int] = field(repr=False)

    @classmethod
    def of(cls, kafka: Kafka, admin: AdminClient, canonical: Topic) -> Box:
        """
        Raises:
            Unavailable: the topic is not there, or the broker does not answer.
        """
        topic = topics.real(kafka, canonical)
        dead = topics.dead_letters(topic)
        return cls(kafka, canonical, topic, dead, identity.ends(admin, dead))

    def letters(self, settled: Settled, choice: Choice) -> Iterator[tuple[Letter, State]]:
        """Those chosen, in log order, and what had become of them when `settled` was read."""
        log = LogReader(self.kafka, self.dead, "dlq")
        try:
            for batch in log.to_end(self.ends, READ):
                for message in batch:
                    letter = Letter.of(message, self.topic)
                    state = settled.state(letter)
                    if choice.takes(letter, state):
                        yield letter, state
        finally:
            log.close()

    def superseded(self, admin: AdminClient, letters: Iterable[Letter]) -> set[Place]:
        """Letters whose key has a newer record in a topic where only the newest counts: written back, they would undo it."""
        if not topics.compacted(self.canonical):
            return set()
        known = [
            (letter.place, (letter.partition, key), letter.offset)
            for letter in letters
            if letter.own and (key := letter.message.key()) is not None
        ]
        newest: dict[tuple[int, bytes], int] = dict.fromkeys((where for _, where, _ in known), -1)
        starts: dict[int, int] = {}
        for _, (partition, _), offset in known:
            starts[partition] = min(offset, starts.get(partition, offset))
        for message in self._records(admin, starts) if known else ():
            where = (message.partition(), message.key() or b"")
            if where in newest:
                newest[where] = message.offset()
        return {place for place, where, offset in known if newest[where] > offset}

    def _records(self, admin: AdminClient, starts: Mapping[int, int]) -> Iterator[Message]:
        """Records of the letters' topic from these offsets on; of its other partitions none."""
        ends = identity.ends(admin, self.topic)
        begin = dict(ends)
        for partition in starts.keys() & ends.keys():
            low, _ = reader.bounds(self.kafka, self.topic, partition)
            begin[partition] = min(max(starts[partition], low), ends[partition])
        log = LogReader(self.kafka, self.topic, "dlq", begin)
        try:
            for batch in log.to_end(ends, READ):
                yield from batch
        finally:
            log.close()
