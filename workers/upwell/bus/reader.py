"""Reads a whole topic from given offsets, as no group's member: first up to its end, then what comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from upwell.bus import clients
from upwell.bus.errors import Inconsistent, Unavailable
from upwell.settings import Kafka

PATIENCE_S = 120.0


def bounds(kafka: Kafka, topic: str, partition: int) -> tuple[int, int]:
    """First offset kept and next offset to be written.

    Raises:
        Unavailable: the broker does not answer.
    """
    consumer = clients.log_reader(kafka, "bounds")
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30.0)
    except KafkaException as error:
        raise Unavailable(f"cannot read the bounds of {topic} [{partition}]: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return low, high


class LogReader:
    """Committed records of every partition of one topic, each partition in order."""

    def __init__(self, kafka: Kafka, topic: str, name: str, starts: dict[int, int] | None = None) -> None:
        """
        Args:
            starts: partition to first offset wanted; others start at the beginning.

        Raises:
            Unavailable: the topic is not there.
        """
        self.topic = topic
        self._consumer = clients.log_reader(kafka, name)
        partitions = clients.all_partitions(self._consumer, topic, OFFSET_BEGINNING)
        for tp in partitions:
            tp.offset = (starts or {}).get(tp.partition, OFFSET_BEGINNING)
        self._behind = {tp.partition for tp in partitions}
        self.positions = dict(starts or {})
        """Partition to next offset, for those read from so far."""
        self._consumer.assign(partitions)

    def read(self, most: int = 1000, timeout_s: float = 0.0) -> list[Message]:
        """What has arrived, at most `most` records; does not wait when `timeout_s` is 0.

        Raises:
            Inconsistent: the position lies outside the log.
        """
        found = []
        for message in self._consumer.consume(most, timeout_s):
            error = message.error()
            if error is None:
                self.positions[message.partition()] = message.offset() + 1
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard(message.partition())
                self.positions[message.partition()] = message.offset()
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise Inconsistent(
                    f"{self.topic} [{message.partition()}]: {error.str()}; `upwell rebase` sets a new position"
                )
        return found

    def behind(self) -> int:
        """Records between the positions and the ends of the log that the broker told of last."""
        found = 0
        for number, position in self.positions.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, number), cached=True)
            found += max(high - position, 0)
        return found

    def to_end(self, ends: Mapping[int, int] | None = None, most: int = 5000) -> Iterator[list[Message]]:
        """Batches until every partition's end has been seen once.

        Args:
            ends: partition to the offset before which its records are wanted: what is written meanwhile is left out.
            most: records of one batch.

        Raises:
            Unavailable: the broker does not answer for `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        while any(self.positions.get(p, 0) < end for p, end in ends.items()) if ends is not None else self._behind:
            batch = self.read(most, 0.1)
            if ends is not None:
                batch = [message for message in batch if message.offset() < ends.get(message.partition(), 0)]
            if batch:
                yield batch
                # Whoever takes the batches may take his time.
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                raise Unavailable(f"{self.topic}: no end reached and nothing read for {PATIENCE_S:.0f} s")

    def close(self) -> None:
        self._consumer.close()
