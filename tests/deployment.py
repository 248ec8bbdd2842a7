"""One test's own Upwell on the shared servers: topics, schema and groups of its own, workers as the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from support import eventually
from upwell.bus import clients, topics
from upwell.local.stack import Stack
from upwell.settings import Settings
from upwell.store import database, migrations


class Worker:
    """A worker process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self.process.kill()
        self.process.wait(30)

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM; the exit code. One that has said nothing yet does not listen to signals either."""
        eventually(
            lambda: self.process.poll() is not None or self.log.stat().st_size, timeout, "the worker's first line"
        )
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": line})
        return found


class Deployment:
    """`settings` are those that the workers get too, by their environment."""

    def __init__(self, stack: Stack, prefix: str, **groups: Mapping[str, Any]) -> None:
        endpoints = stack.endpoints()
        settings: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap_servers": endpoints.kafka,
                "topic_prefix": prefix,
                "group_prefix": prefix,
                "partitions": 2,
                # A worker that was killed is replaced soon.
                "session_timeout_ms": 6000,
            },
            "postgres": {"dsn": endpoints.postgres, "db_schema": prefix.rstrip("_")},
            "triton": {"url": endpoints.triton},
            "telemetry": {"log_format": "json", "log_level": "info"},
        }
        for group, values in groups.items():
            settings.setdefault(group, {}).update(values)
        self.environment = {
            f"UPWELL_{group}__{name}".upper(): json.dumps(value) if isinstance(value, dict | list) else str(value)
            for group, values in settings.items()
            for name, value in values.items()
        }
        self.settings = Settings(**settings)  # type: ignore[arg-type]
        self.prefix = prefix
        self.admin = clients.admin(self.settings.kafka)
        self.producer = clients.plain_producer(self.settings.kafka)
        self._refused: list[KafkaError] = []
        topics.create(self.settings.kafka, self.admin)
        migrations.migrate(self.settings.postgres)

    @contextmanager
    def worker(self, name: str, slot: int = 0) -> Iterator[Worker]:
        """Run `upwell worker <name>`; at the end it is stopped, where it still runs, and must have ended well."""
        with tempfile.NamedTemporaryFile(prefix=f"{self.prefix}{name}-", suffix=".log", delete=False) as log:
            environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | self.environment
            process = subprocess.Popen(
                [sys.executable, "-m", "upwell.cli.main", "worker", name, "--slot", str(slot)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        worker = Worker(process, Path(log.name))
        try:
            yield worker
            if process.poll() is None:
                assert worker.stop() == 0, worker.log.read_text()
        finally:
            if process.poll() is None:
                worker.kill()
            if sys.exc_info()[0] is not None:
                print(f"--- log of {name}\n{worker.log.read_text(errors='replace')[-8000:]}", file=sys.stderr)
            worker.log.unlink()

    def topic(self, name: str) -> str:
        return topics.real(self.settings.kafka, name)

    def produce(self, topic: str, key: str | bytes | None, value: object, partition: int = -1) -> None:
        """Send one record; anything but bytes and None goes as JSON. `flush` waits for all."""
        raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        self.producer.produce(self.topic(topic), raw, key, partition, on_delivery=self._delivered)
        self.producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(error)

    def flush(self) -> None:
        assert self.producer.flush(30) == 0
        assert not self._refused

    def read(self, topic: str) -> list[Message]:
        """All committed records of a topic, partition by partition."""
        name = self.topic(topic)
        reader = Consumer(
            {
                "bootstrap.servers": self.settings.kafka.bootstrap_servers, "group.id": "test", "enable.auto.commit": False,
                "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": 33_554_432,
            }
        )  # fmt: skip
        try:
            partitions = reader.list_topics(name, timeout=30).topics[name].partitions
            reader.assign([TopicPartition(name, number, 0) for number in partitions])
            found: list[Message] = []
            ended = 0
            deadline = time.monotonic() + 30
            while ended < len(partitions):
                assert time.monotonic() < deadline, f"{name} has no end"
                message = reader.poll(1)
                if message is None:
                    continue
                if message.error() is not None:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    ended += 1
                else:
                    found.append(message)
            return sorted(found, key=lambda m: (m.partition(), m.offset()))
        finally:
            reader.close()

    def read_json(self, topic: str) -> list[dict[str, Any]]:
        """The committed records of a topic that have a value."""
        return [json.loads(message.value()) for message in self.read(topic) if message.value() is not None]

    def committed(self, worker: str, *names: str) -> dict[tuple[str, int], tuple[int, str]]:
        """Committed offset and its text, by topic and partition; partitions without one are left out."""
        reader = Consumer(
            {
                "bootstrap.servers": self.settings.kafka.bootstrap_servers, "isolation.level": "read_committed",
                "group.id": clients.group_id(self.settings.kafka, worker),
            }
        )  # fmt: skip
        try:
            asked = [
                TopicPartition(self.topic(name), number)
                for name in names
                for number in range(self.settings.kafka.partitions)
            ]
            return {
                (tp.topic, tp.partition): (tp.offset, tp.metadata or "")
                for tp in reader.committed(asked, timeout=30)
                if tp.offset >= 0
            }
        finally:
            reader.close()

    def drained(self, worker: str, *names: str, timeout: float = 60) -> None:
        """Wait until the worker's group has committed everything that is in these topics now."""
        ends = {
            (self.topic(name), n): self._end(self.topic(name), n)
            for name in names
            for n in range(self.settings.kafka.partitions)
        }

        def done() -> bool:
            try:
                committed = self.committed(worker, *names)
            except KafkaException:  # the group's coordinator is not up yet
                return False
            return all(committed.get(place, (0, ""))[0] >= end for place, end in ends.items() if end)

        eventually(done, timeout, f"{worker} has committed {ends}", every=0.2)

    def _end(self, topic: str, partition: int) -> int:
        """Next offset of a partition; one just created may not have its leader yet."""

        def high() -> list[int]:
            try:
                return [reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]]
            except KafkaException:
                return []

        reader = Consumer({"bootstrap.servers": self.settings.kafka.bootstrap_servers, "group.id": "test"})
        try:
            return eventually(high)[0]
        finally:
            reader.close()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with database.connect(self.settings.postgres) as connection:
            return connection.execute(query.encode(), list(parameters)).fetchall()

    def execute(self, statement: str, *parameters: object) -> None:
        with database.connect(self.settings.postgres) as connection:
            connection.execute(statement.encode(), list(parameters))

    def close(self) -> None:
        """Remove topics and schema."""
        mine = [name for name in self.admin.list_topics(timeout=30).topics if name.startswith(self.prefix)]
        for future in self.admin.delete_topics(mine).values() if mine else ():
            future.result()
        with psycopg.connect(self.settings.postgres.dsn.get_secret_value(), autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {self.settings.postgres.db_schema} CASCADE".encode())


@contextmanager
def deployed(stack: Stack, prefix: str, **groups: Mapping[str, Any]) -> Iterator[Deployment]:
    """A deployment whose topics and schema go with the test."""
    deployment = Deployment(stack, prefix, **groups)
    try:
        yield deployment
    finally:
        deployment.close()


def header(message: Message, name: str) -> str:
    """A header's text."""
    return dict(message.headers() or [])[name].decode()
