"""A topic's or a cluster's name in, its unchangeable id out: a re-created topic keeps its name, never its id."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

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
