"""A topic's or a cluster's name in, its unchangeable id out: a re-created topic keeps its name, never its id. And where
a topic ends."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from upwell.bus.errors import Unavailable

_TIMEOUT_S = 30.0


def topic_id(admin: AdminClient, topic: str) -> str:
    """The id that the cluster gave to the topic when it was created.

    Raises:
        Unavailable: the broker does not answer, or the topic is not there.
    """
    try:
        future = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_S)[topic]
        return str(future.result().topic_id)
    except KafkaException as error:
        raise Unavailable(
            f"cannot describe topic {topic}: {error.args[0].str()}; `upwell topics create` creates what is missing"
        ) from error


def cluster_id(admin: AdminClient) -> str:
    """The id of the Kafka cluster.

    Raises:
        Unavailable: the broker does not answer.
    """
    try:
        return str(admin.describe_cluster(request_timeout=_TIMEOUT_S).result().cluster_id)
    except KafkaException as error:
        raise Unavailable(f"cannot describe the Kafka cluster: {error.args[0].str()}") from error


def ends(admin: AdminClient, topic: str) -> dict[int, int]:
    """Partition to the offset that its next record will have.

    Raises:
        Unavailable: the broker does not answer, or the topic is not there.
    """
    try:
        found = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_S)[topic].result()
        asked = {TopicPartition(topic, p.id): OffsetSpec.latest() for p in found.partitions}
        answers = admin.list_offsets(asked, request_timeout=_TIMEOUT_S)
        return {tp.partition: int(future.result().offset) for tp, future in answers.items()}
    except KafkaException as error:
        raise Unavailable(f"cannot read the ends of {topic}: {error.args[0].str()}") from error
