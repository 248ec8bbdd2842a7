"""Committed offsets of the workers' groups and ends of the topics in; per worker how far it is, and when all is done.

A group is done when it has committed past every data record that a read_committed reader has seen, and that reader has
seen everything: no transaction is open, nothing is unread. Markers of transactions are no records and count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from upwell.bus import clients, topics
from upwell.bus.topics import TRIGGERS, Topic
from upwell.evaluation.reader import Place, Reader
from upwell.settings import Kafka

WATCHED = {
    "items": (Topic.ITEMS,),
    "interactions": (Topic.INTERACTIONS,),
    "content": (*TRIGGERS.values(), Topic.REQUESTS),
    "trends": (Topic.STATISTICS,),
}
"""The workers to wait for, with their inputs."""
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Standing:
    """How far a worker's group is in its inputs."""

    done: int
    """Sum of its committed offsets: grows with what it has worked through."""
    lag: int
    """Offsets that it has yet to commit; 0 exactly when it has nothing left."""


class Drain:
    """Looks from outside how far the workers are."""

    def __init__(self, kafka: Kafka, reader: Reader) -> None:
        self.latest = dict.fromkeys(WATCHED, Standing(0, 0))
        """The last answer of `standings`."""
        self._kafka = kafka
        self._reader = reader
        self._admin: AdminClient | None = clients.admin(kafka)
        self._members: dict[str, Consumer] = {}

    def close(self) -> None:
        """Let go of the broker; the latest standings stay."""
        self._admin = None
        for member in self._members.values():
            member.close()
        self._members.clear()

    @property
    def _client(self) -> AdminClient:
        assert self._admin is not None, "closed"
        return self._admin

    def present(self) -> bool:
        """Whether every worker's group has settled who reads what."""
        groups = [clients.group_id(self._kafka, worker) for worker in WATCHED]
        try:
            answers = self._client.describe_consumer_groups(groups, request_timeout=TIMEOUT_S)
            return all(future.result().state == ConsumerGroupState.STABLE for future in answers.values())
        except KafkaException:
            return False

    def standings(self) -> dict[str, Standing]:
        """How far each worker is, in what has been read of its inputs so far.

        Raises:
            KafkaException: the broker does not answer.

        """
        self.latest = {worker: self._standing(worker, inputs) for worker, inputs in WATCHED.items()}
        return self.latest

    def drained(self) -> bool:
        """Whether all workers are done for good, provided that nobody publishes input any more.

        Nobody has anything left to commit in logs that are whole and fully read, and those logs have not grown since:
        what a worker publishes is in a log before its offsets are committed, so no work in flight can hide.
        """
        try:
            ends = self._ends(IsolationLevel.READ_UNCOMMITTED)
            if self._ends(IsolationLevel.READ_COMMITTED) != ends:
                return False  # a transaction is open
            if any(self._reader.read_to.get(place, -1) < end for place, end in ends.items()):
                return False
            if any(standing.lag for standing in self.standings().values()):
                return False
            return self._ends(IsolationLevel.READ_UNCOMMITTED) == ends
        except KafkaException:
            return False

    def _ends(self, isolation: IsolationLevel) -> dict[Place, int]:
        """Where the logs end: after the last record, or before the first one of an open transaction."""
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in self._reader.places}
        answers = self._client.list_offsets(asked, isolation_level=isolation, request_timeout=TIMEOUT_S)
        return {(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}

    def _standing(self, worker: str, inputs: Iterable[Topic]) -> Standing:
        names = {topics.real(self._kafka, topic) for topic in inputs}
        places = [place for place in self._reader.places if place[0] in names]
        committed = self._committed(worker, places)
        lag = sum(max(0, self._reader.ends.get(place, 0) - committed.get(place, 0)) for place in places)
        return Standing(sum(committed.values()), lag)

    def _committed(self, worker: str, places: Iterable[Place]) -> dict[Place, int]:
        if worker not in self._members:
            self._members[worker] = clients.group_observer(self._kafka, worker)
        asked = [TopicPartition(*place) for place in places]
        answers = self._members[worker].committed(asked, timeout=TIMEOUT_S) if asked else []
        return {(tp.topic, tp.partition): tp.offset for tp in answers if tp.offset > 0}
