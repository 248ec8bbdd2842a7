"""A Faust table whose changelog goes through librdkafka: one batch of changes in, stored and flushed, or an error.

Faust recovers it from the changelog as any table. It is written differently because a table of Faust sends each change
through its own Python producer, at some hundred microseconds each; a batch here costs a few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import faust
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from upwell.bus.errors import Unavailable
from upwell.bus.headers import Headers

FLUSH_S = 30.0


class Publisher:
    """A producer whose failures are not lost: `flush` returns when all that was produced is in the log, or raises."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._failure: KafkaError | None = None

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1, headers: Headers | None = None
    ) -> None:
        """Produce one record; to the partitioner's choice where `partition` is -1."""
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=self._delivered, headers=list(headers or ())
                )
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    async def flush(self) -> None:
        """
        Raises:
            Unavailable: something could not be written.
        """
        try:
            left = await asyncio.to_thread(self._producer.flush, FLUSH_S)
        except KafkaException as error:
            raise Unavailable(f"cannot write counts and trends: {error}") from error
        if self._failure is not None:
            raise Unavailable(f"cannot write counts and trends: {self._failure.str()}")
        if left:
            raise Unavailable(f"the brokers did not take {left} records of counts and trends within {FLUSH_S:.0f} s")


class Table(faust.Table):  # type: ignore[misc]
    """Bytes to bytes. Written by `put` alone."""

    def put(self, publisher: Publisher, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        """Write `changes` of a partition here and to its changelog; in the log after the publisher's flush."""
        topic = self.changelog_topic.get_topic_name()
        data: dict[bytes, bytes] = self.data.data
        owners: dict[bytes, int] = self.data._key_partition
        for key, value in changes.items():
            publisher.send(topic, key, value, partition)
            if value is None:
                data.pop(key, None)
                owners.pop(key, None)
            else:
                data[key] = value
                # Whose keys go when the partition does: Faust notes it on recovery only.
                owners[key] = partition

    def keys_of(self, partition: int) -> list[bytes]:
        return [key for key, owner in self.data._key_partition.items() if owner == partition]

    def on_key_set(self, key: Any, value: Any) -> None:
        raise NotImplementedError("counts are written in batches, by `put`")

    on_key_del = on_key_set
