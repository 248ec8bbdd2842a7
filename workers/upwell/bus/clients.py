"""librdkafka clients with the settings that the guarantees need; users' own options come last, but for those."""

from __future__ import annotations

import time
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from upwell.bus.errors import Unavailable
from upwell.settings import Kafka

log = structlog.get_logger("upwell.bus")

SAME_ERROR_S = 5.0


class _Connections:
    """Broker connections come and go, and librdkafka reconnects: said once per while. Fatal errors surface again where
    they are handled."""

    def __init__(self) -> None:
        self._said = -SAME_ERROR_S
        self._left_out = 0

    def __call__(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._said < SAME_ERROR_S:
            self._left_out += 1
            return
        self._said = now
        left_out, self._left_out = self._left_out, 0
        log.warning("kafka.connection", error=error.str(), left_out=left_out)


def _common(kafka: Kafka) -> dict[str, Any]:
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "error_cb": _Connections(),
        # A broker that restarts is back within seconds: look often.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        # Failing connections reach us through error_cb; on standard error librdkafka would say each of them.
        "log_level": 2,
        **kafka.options,
    }


def admin(kafka: Kafka) -> AdminClient:
    return AdminClient(_common(kafka))


def group_consumer(kafka: Kafka, worker: str, slot: int) -> Consumer:
    """A member of `worker`'s group: static per slot, manual offsets, committed records only."""
    return Consumer(
        {
            **_common(kafka),
            "session.timeout.ms": kafka.session_timeout_ms,
            "heartbeat.interval.ms": max(300, kafka.session_timeout_ms // 5),
            "fetch.wait.max.ms": 50,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
            "queued.max.messages.kbytes": 65_536,
            **kafka.consumer_options,
            "group.id": group_id(kafka, worker),
            "group.instance.id": f"{group_id(kafka, worker)}-{slot}",
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
    )


def group_id(kafka: Kafka, worker: str) -> str:
    return f"{kafka.group_prefix}-{worker}"


def log_reader(kafka: Kafka, name: str) -> Consumer:
    """Reads whole topics by `assign`, as no member of any group; committed records only; tells partition ends."""
    return Consumer(
        {
            **_common(kafka),
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 65_536,
            **kafka.consumer_options,
            "group.id": f"{kafka.group_prefix}-{name}-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
    )


def group_observer(kafka: Kafka, worker: str) -> Consumer:
    """Asks for the committed offsets of `worker`'s group, without joining it.

    AdminClient has the same question, but librdkafka 2.16 aborts the process when the coordinator is away meanwhile.
    """
    return Consumer(
        {
            **_common(kafka),
            **kafka.consumer_options,
            "group.id": group_id(kafka, worker),
            "enable.auto.commit": False,
            # What is committed now, without waiting for transactions in flight.
            "isolation.level": "read_uncommitted",
        }
    )


def plain_producer(kafka: Kafka) -> Producer:
    """An idempotent producer outside of any transaction, for tools that feed input topics."""
    return Producer(
        {
            **_common(kafka),
            "linger.ms": 5,
            "message.max.bytes": 32 * 1024 * 1024,
            **kafka.producer_options,
            "enable.idempotence": True,
        }
    )


def transactional_producer(kafka: Kafka, worker: str, slot: int) -> Producer:
    """A producer whose transactional id is the worker's slot, so that a restart fences its own past at once."""
    return Producer(
        {
            **_common(kafka),
            "linger.ms": 1,
            # The commit path waits on these: 100 ms, the default, is what a commit would take.
            "retry.backoff.ms": 5,
            "retry.backoff.max.ms": 500,
            "message.max.bytes": 32 * 1024 * 1024,
            "queue.buffering.max.kbytes": 131_072,
            "compression.type": "lz4",
            **kafka.producer_options,
            "transactional.id": f"{group_id(kafka, worker)}-{slot}",
            "transaction.timeout.ms": kafka.transaction_timeout_ms,
            "message.timeout.ms": max(1000, kafka.transaction_timeout_ms - 1000),
        }
    )


def all_partitions(client: Consumer, topic: str, offset: int) -> list[TopicPartition]:
    """Every partition of a topic at `offset`.

    Raises:
        Unavailable: when the topic is not there.
    """
    try:
        metadata = client.list_topics(topic, timeout=30).topics[topic]
    except KafkaException as error:
        raise Unavailable(f"cannot read the metadata of topic {topic}: {error}") from error
    if metadata.error is not None or not metadata.partitions:
        raise Unavailable(f"topic {topic} is not there: create it with `upwell topics create`")
    return [TopicPartition(topic, partition, offset) for partition in sorted(metadata.partitions)]
