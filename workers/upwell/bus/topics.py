"""Topics by canonical name: their real names, partitions and settings, and their creation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import tenacity
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from upwell.bus.errors import Unavailable
from upwell.settings import Kafka

DAY_MS = 86_400_000
VISIBLE_S = 30
LARGE_RECORD = str(16 * 1024 * 1024)
# A dead letter is the record and its headers.
LARGE_DEAD_LETTER = str(32 * 1024 * 1024)


class Topic(StrEnum):
    """Canonical names; `real` gives the name on the bus."""

    ITEMS = "items"
    INTERACTIONS = "interactions"
    REQUESTS = "requests"
    RULES = "rules"
    ITEM_FEATURES = "item-features"
    RANKINGS = "rankings"
    TRIGGERS_HIGH = "content-triggers.high"
    TRIGGERS_NORMAL = "content-triggers.normal"
    TRIGGERS_LOW = "content-triggers.low"
    CONTENTS = "contents"
    STATISTICS = "statistics"
    TRENDS = "trends"
    DLQ_SETTLED = "dlq-settled"


INPUTS = (Topic.ITEMS, Topic.INTERACTIONS, Topic.REQUESTS, Topic.RULES)
TRIGGERS = {"high": Topic.TRIGGERS_HIGH, "normal": Topic.TRIGGERS_NORMAL, "low": Topic.TRIGGERS_LOW}
DEAD_LETTERED = {
    Topic.ITEMS: "items",
    Topic.INTERACTIONS: "interactions",
    Topic.RULES: "interactions",
    Topic.REQUESTS: "content",
    **dict.fromkeys(TRIGGERS.values(), "content"),
    Topic.STATISTICS: "trends",
}
"""What has a dead-letter topic, and the worker that writes to it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How Upwell creates a topic. `partitions` None means `kafka.partitions`."""

    partitions: int | None = None
    config: dict[str, str] = field(default_factory=dict)


# Inputs and dead letters take records larger than a worker accepts: a producer must be able to get it wrong.
_WIDE = {"max.message.bytes": LARGE_RECORD}
# The dedupe window counts in log time: the broker's clock, not the producer's.
_LOG_TIME = {"message.timestamp.type": "LogAppendTime"}

LAYOUTS: dict[Topic, Layout] = {
    Topic.ITEMS: Layout(config=_WIDE | {"cleanup.policy": "compact"}),
    Topic.INTERACTIONS: Layout(config=_WIDE | _LOG_TIME),
    Topic.REQUESTS: Layout(config=_WIDE | _LOG_TIME),
    # All rules are read by every worker, in one order.
    Topic.RULES: Layout(partitions=1, config=_WIDE | {"cleanup.policy": "compact"}),
    Topic.ITEM_FEATURES: Layout(config={"cleanup.policy": "compact"}),
    Topic.RANKINGS: Layout(
        config=_LOG_TIME
        | {
            "cleanup.policy": "compact,delete",
            "min.compaction.lag.ms": str(14 * DAY_MS),
            "retention.ms": str(28 * DAY_MS),
        }
    ),
    Topic.TRIGGERS_HIGH: Layout(),
    Topic.TRIGGERS_NORMAL: Layout(),
    Topic.TRIGGERS_LOW: Layout(),
    Topic.CONTENTS: Layout(),
    Topic.STATISTICS: Layout(partitions=1),
    Topic.TRENDS: Layout(config={"cleanup.policy": "compact,delete"}),
    # Compacted without end: a note that expired before its dead letter would let it be written back once more.
    Topic.DLQ_SETTLED: Layout(partitions=1, config={"cleanup.policy": "compact"}),
}


def real(kafka: Kafka, topic: Topic | str) -> str:
    """The name on the bus: an own name from `kafka.topics`, else the prefixed canonical one."""
    return kafka.topics.get(str(topic), f"{kafka.topic_prefix}{topic}")


def dead_letters(name: str) -> str:
    """The dead-letter topic of a real topic name."""
    return f"{name}.dlq"


def compacted(topic: Topic) -> bool:
    """Whether of a key only the newest record counts."""
    return "compact" in LAYOUTS[topic].config.get("cleanup.policy", "")


def create(kafka: Kafka, admin: AdminClient) -> list[str]:
    """Create the topics that are missing, dead-letter topics of all that is consumed included, and wait for them.

    Returns:
        Real names of the topics created.

    Raises:
        KafkaException: when the broker refuses for another reason than that the topic is there.
        Unavailable: when the broker does not show a topic that it created.
    """
    wanted = [
        NewTopic(
            real(kafka, topic),
            num_partitions=layout.partitions or kafka.partitions,
            replication_factor=kafka.replication_factor,
            config=layout.config,
        )
        for topic, layout in LAYOUTS.items()
    ]
    wanted += [
        NewTopic(
            dead_letters(real(kafka, topic)),
            num_partitions=1,
            replication_factor=kafka.replication_factor,
            config={"max.message.bytes": LARGE_DEAD_LETTER},
        )
        for topic in DEAD_LETTERED
    ]
    present = admin.list_topics(timeout=30).topics
    missing = [topic for topic in wanted if topic.topic not in present]
    created = []
    for name, outcome in (admin.create_topics(missing, operation_timeout=30) if missing else {}).items():
        try:
            outcome.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _await(admin, [topic.topic for topic in missing])
    return created


def _await(admin: AdminClient, names: list[str]) -> None:
    """Until every partition has a leader: a broker answers a creation before its own metadata shows the topic."""

    def hidden() -> list[str]:
        topics = admin.list_topics(timeout=30).topics
        return [name for name in names if name not in topics or not _led(topics[name])]

    try:
        tenacity.Retrying(
            retry=tenacity.retry_if_result(bool),
            stop=tenacity.stop_after_delay(VISIBLE_S),
            wait=tenacity.wait_exponential(multiplier=0.02, max=1),
        )(hidden)
    except tenacity.RetryError as error:
        missed = ", ".join(error.last_attempt.result())
        raise Unavailable(f"the broker created topics and does not show them after {VISIBLE_S} s: {missed}") from error


def _led(topic: TopicMetadata) -> bool:
    return topic.error is None and bool(topic.partitions) and all(p.leader >= 0 for p in topic.partitions.values())
