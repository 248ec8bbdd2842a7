"""Topics as any application reads them, with `isolation.level=read_committed`, and the tables of Postgres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from psycopg import sql

from faults.verifier.items import Item
from faults.verifier.records import Place, Record
from faults.verifier.users import Profile

INPUTS = ("items", "interactions", "requests")
MOST_BYTES = 33_554_432
TIMEOUT_S = 5.0


class Reader:
    """Reads whole topics, on and on."""

    def __init__(self, servers: str, prefix: str, topics: Iterable[str]) -> None:
        """`topics`: canonical names.

        Raises:
            KafkaException: a topic is not there, or no broker answers.
        """
        self.prefix = prefix
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers, "group.id": f"{prefix}outsider", "enable.auto.commit": False,
                "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "error",
                "fetch.message.max.bytes": MOST_BYTES, "queued.max.messages.kbytes": 65_536, "log_level": 0,
                "reconnect.backoff.max.ms": 1000,
            }
        )  # fmt: skip
        known = self._consumer.list_topics(timeout=30).topics
        places = [(f"{prefix}{topic}", number) for topic in topics for number in known[f"{prefix}{topic}"].partitions]
        self.next: dict[tuple[str, int], int] = {(name.removeprefix(prefix), number): 0 for name, number in places}
        """Offset after the last record read, by canonical topic and partition."""
        self.ends: dict[tuple[str, int], int] = {}
        """Where the end was, of partitions that were read to it since their last record."""
        self.read_of: Counter[str] = Counter()
        """Records read of the inputs, by topic."""
        self._consumer.assign([TopicPartition(name, number, 0) for name, number in places])

    def read(self, timeout_s: float) -> list[Record]:
        """What has come.

        Raises:
            KafkaException: a position is outside the log: records are gone.
        """
        found = []
        for message in self._consumer.consume(1000, timeout_s):
            error = message.error()
            if error is None:
                record = self._record(message)
                where = record.place[:2]
                self.next[where] = record.place.offset + 1
                self.ends.pop(where, None)
                if where[0] in INPUTS:
                    self.read_of[where[0]] += 1
                found.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                self.ends[message.topic().removeprefix(self.prefix), message.partition()] = message.offset()
            elif error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.UNKNOWN_TOPIC_OR_PART}:
                raise KafkaException(error)
        return found

    def whole(self, group: Group) -> bool:
        """Whether all there is has been read: no log goes on behind an open transaction.

        Raises:
            KafkaException: a partition's leader does not answer.
        """
        return len(self.ends) == len(self.next) and all(group.end(where) == end for where, end in self.ends.items())

    def _record(self, message: Message) -> Record:
        place = Place(message.topic().removeprefix(self.prefix), message.partition(), message.offset())
        headers = {name: value or b"" for name, value in message.headers() or []} if place.topic.endswith("dlq") else {}
        return Record(place, message.key(), message.value(), message.timestamp()[1], headers)

    def close(self) -> None:
        self._consumer.close()


class Group:
    """Asks for the committed offsets of a group, without joining it."""

    def __init__(self, servers: str, group: str, prefix: str, places: Iterable[tuple[str, int]]) -> None:
        """`places`: canonical topics and partitions."""
        self.prefix, self.places = prefix, list(places)
        self._asked = [(f"{prefix}{topic}", number) for topic, number in self.places]
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False, "log_level": 0,
                "isolation.level": "read_uncommitted", "reconnect.backoff.max.ms": 1000,
            }
        )  # fmt: skip

    def committed(self, timeout_s: float = TIMEOUT_S) -> dict[tuple[str, int], tuple[int, str]]:
        """Committed offset and its text; -1 where there is none.

        Raises:
            KafkaException: the group's coordinator does not answer.
        """
        asked = [TopicPartition(name, number) for name, number in self._asked]
        answer = self._consumer.committed(asked, timeout=timeout_s)
        for tp in answer:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return {
            (tp.topic.removeprefix(self.prefix), tp.partition): (max(-1, tp.offset), tp.metadata or "") for tp in answer
        }

    def end(self, where: tuple[str, int]) -> int:
        """Where a log ends, records of open transactions included.

        Raises:
            KafkaException: its leader does not answer.
        """
        topic, partition = where
        place = TopicPartition(f"{self.prefix}{topic}", partition)
        return int(self._consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)[1])

    def close(self) -> None:
        self._consumer.close()


def profiles(dsn: str, schema: str) -> list[Profile]:
    """All rows of `profiles`."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            sql.SQL(
                "SELECT user_id, generation, version, revision, event_time, base, half_life_ms, vector::real[] "
                "FROM {}.profiles"
            ).format(sql.Identifier(schema))
        )
        return [Profile(*row) for row in rows]


def items(dsn: str, schema: str) -> Mapping[str, Item]:
    """All rows of `items`, by id."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            sql.SQL(
                "SELECT item_id, partition, log_offset, deleted, model_version, vector::real[] FROM {}.items"
            ).format(sql.Identifier(schema))
        )
        return {row[0]: Item(*row[1:]) for row in rows}


def versions(dsn: str, schema: str) -> dict[str, int]:
    """Version by user."""
    with psycopg.connect(dsn) as connection:
        return dict(
            connection.execute(
                sql.SQL("SELECT user_id, version FROM {}.profiles").format(sql.Identifier(schema))
            ).fetchall()
        )
