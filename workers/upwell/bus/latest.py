"""A compacted topic in: its latest record of each key; records of one out, acknowledged by the broker. For tools."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Message

from upwell.bus import clients
from upwell.bus.errors import Unavailable
from upwell.bus.reader import LogReader
from upwell.settings import Kafka

PATIENCE_S = 30.0


def read(kafka: Kafka, topic: str) -> dict[bytes, Message]:
    """The latest record of each key, in log order of these; keys whose record is null are left out.

    Raises:
        Unavailable: the topic is not there, or the broker does not answer.
    """
    reader = LogReader(kafka, topic, "latest")
    found: dict[bytes, Message] = {}
    try:
        for batch in reader.to_end():
            for message in batch:
                key = message.key() or b""
                found.pop(key, None)
                if message.value() is not None:
                    found[key] = message
    finally:
        reader.close()
    return found


def write(kafka: Kafka, topic: str, records: Mapping[str, bytes | None]) -> None:
    """Write one record for each key, and wait until the broker has them all.

    Raises:
        KafkaException: the broker refuses one.
        Unavailable: it does not answer.
    """
    refused: list[KafkaError] = []
    producer = clients.plain_producer(kafka)
    for key, value in records.items():
        producer.produce(
            topic, value, key.encode(), on_delivery=lambda error, _: refused.append(error) if error else None
        )
        producer.poll(0)
    if left := producer.flush(PATIENCE_S):
        raise Unavailable(f"{topic}: {left} records are not acknowledged after {PATIENCE_S:.0f} s")
    if refused:
        raise KafkaException(refused[0])
