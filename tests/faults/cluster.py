"""What the faults are done to: three brokers, Postgres, Triton, and the workers, each as the real program it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from support import eventually
from upwell.bus import clients, topics
from upwell.local import assets
from upwell.local.kafka import Kafka, cluster_id
from upwell.local.paths import default_cache
from upwell.local.processes import choose_port
from upwell.local.stack import Stack
from upwell.local.supervisor import ManagedProcess, Supervisor
from upwell.ranking.ranker import warm
from upwell.settings import Settings
from upwell.store import migrations

BROKERS = 3
PARTITIONS = 6
PREFIX = "faults_"
WORKERS = {"interactions": 3, "items": 2, "content": 2, "trends": 2}
REPLICATED = {
    "default.replication.factor": "3", "min.insync.replicas": "2", "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3", "share.coordinator.state.topic.min.isr": "2",
}  # fmt: skip
SESSION_MS, TRANSACTION_MS = 6_000, 10_000
"""The session timeout is shorter than production's 10 s, so that more takeovers fit into the time."""
BEGIN_S = 240.0

Program = Callable[[str, int], Sequence[str]]


def real_worker(name: str, slot: int) -> list[str]:
    """The command line of a worker."""
    return [sys.executable, "-m", "upwell.cli.main", "worker", name, "--slot", str(slot)]


class Cluster:
    """Runs from `with` to its end; leaves nothing behind, however this process ends."""

    def __init__(
        self,
        home: Path,
        say: Callable[[str], None],
        program: Program = real_worker,
        workers: Mapping[str, int] = WORKERS,
    ) -> None:
        """`program`: gives a worker's command line."""
        self.home, self.say, self._program, self.workers = home, say, program, dict(workers)
        self.ends: list[tuple[float, str, int]] = []
        """(Unix time, worker, exit code) of each end."""
        self.supervisor = Supervisor(on_exit=self._ended)
        self.stack = Stack(home / "servers", ephemeral=True)
        self.brokers: list[Kafka] = []
        self.settings: Settings
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for worker in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                worker.resume()  # a frozen one hears nothing
        self.supervisor.close(kill=True)
        self.stack.wipe()

    @property
    def servers(self) -> str:
        return ",".join(broker.endpoint for broker in self.brokers)

    @property
    def dsn(self) -> str:
        return self.settings.postgres.dsn.get_secret_value()

    @property
    def schema(self) -> str:
        return self.settings.postgres.db_schema

    def _start(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            servers = pool.submit(self.stack.start, ("postgres", "triton"), models=("text_encoder",))
            # In a fresh checkout three workers would compile the same at the same time.
            compiled = pool.submit(warm)
            self._start_brokers()
            compiled.result()
            endpoints = servers.result()
        self.say(f"three brokers, Postgres and Triton are up after {time.monotonic() - began:.0f} s")
        groups: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap_servers": self.servers, "topic_prefix": PREFIX, "group_prefix": PREFIX,
                "partitions": PARTITIONS, "replication_factor": BROKERS, "session_timeout_ms": SESSION_MS,
                "transaction_timeout_ms": TRANSACTION_MS,
            },
            "postgres": {"dsn": endpoints.postgres, "db_schema": PREFIX.rstrip("_")},
            "triton": {"url": endpoints.triton},
            "ranking": {"slate": 5},
            "telemetry": {"log_format": "json", "log_level": "info"},
        }  # fmt: skip
        self.settings = Settings(**groups)  # type: ignore[arg-type]
        own = {
            f"UPWELL_{group}__{name}".upper(): json.dumps(value) if isinstance(value, dict) else str(value)
            for group, values in groups.items()
            for name, value in values.items()
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("UPWELL_")}
        # A worker's arithmetic is small: more threads would only stand in the way of the others.
        scratch = self.home / "scratch"
        scratch.mkdir()
        self.environment = {**kept, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch), **own}
        topics.create(self.settings.kafka, clients.admin(self.settings.kafka))
        migrations.migrate(self.settings.postgres)
        for name, count in self.workers.items():
            for slot in range(count):
                self.start(name, slot)

    def _start_brokers(self) -> None:
        jars, cluster = assets.fetch_jars(default_cache(), self.say), cluster_id()
        taken: set[int] = set()
        ports = []
        for _ in range(BROKERS):
            own = {}
            for name in Kafka.port_names:
                own[name] = choose_port(20_000 + os.getpid() * 7 % 12_000, taken)
                taken.add(own[name])
            ports.append(own)
        voters = ",".join(f"{node}@127.0.0.1:{own['kafka_controller']}" for node, own in enumerate(ports, 1))
        for node, own in enumerate(ports, 1):
            options = REPLICATED | {"node.id": str(node), "controller.quorum.voters": voters}
            self.brokers.append(Kafka(self.home / f"broker{node - 1}", jars, own, options, cluster))
        for broker in self.brokers:
            broker.prepare()
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        for number, broker in enumerate(self.brokers):
            self.supervisor.start(f"broker-{number}", **broker.process())
        eventually(self.in_sync, BEGIN_S, "three brokers that know each other", every=0.2)

    def in_sync(self) -> bool:
        """Whether all brokers are there and every partition has all its replicas in sync."""
        try:
            told = self._admin.list_topics(timeout=3)
        except KafkaException:
            return False
        partitions = [p for topic in told.topics.values() for p in topic.partitions.values()]
        return len(told.brokers) == BROKERS and all(len(p.isrs) == len(p.replicas) for p in partitions)

    # Workers

    def start(self, name: str, slot: int) -> None:
        self.supervisor.start(
            f"{name}-{slot}", self._program(name, slot), self.environment, self.log(name, slot),
            give_up_codes=frozenset(), backoff_s=(0.2, 2.0),
        )  # fmt: skip

    def lose(self, name: str, slot: int) -> None:
        """SIGKILL, and no restart."""
        self.supervisor.stop(f"{name}-{slot}", kill=True)

    def log(self, name: str, slot: int) -> Path:
        return self.home / "logs" / f"{name}-{slot}.log"

    def _ended(self, process: ManagedProcess) -> None:
        self.ends.append((time.time(), process.name, process.exit_code or 0))

    # Any of them

    def pid(self, target: str, number: int) -> int | None:
        """None while it is down."""
        if target in {"postgres", "triton"}:
            return self.stack.pid(target)
        return self.supervisor.pid(f"{target}-{number}")

    def kill(self, target: str, number: int) -> None:
        """SIGKILL; whoever supervises it starts it again."""
        if (pid := self.pid(target, number)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self, target: str, number: int) -> list[psutil.Process]:
        """SIGSTOP, to its children too; returns what `thaw` lets go on."""
        pid = self.pid(target, number)
        if pid is None:
            return []
        stopped = []
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    one.suspend()
                    stopped.append(one)
        return stopped

    @staticmethod
    def thaw(stopped: Sequence[psutil.Process]) -> None:
        for one in stopped:
            with contextlib.suppress(psutil.Error):
                one.resume()
