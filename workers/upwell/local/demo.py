"""A data set in, a whole run of Upwell on a stack of its own out: servers, workers, events, outside verification.

However it ends, it leaves no process behind, but for the servers where they are to be kept.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import psycopg
from confluent_kafka import KafkaException

from upwell.bus import clients, topics
from upwell.bus.topics import Topic
from upwell.evaluation.datasets import Dataset
from upwell.evaluation.drain import Drain
from upwell.evaluation.reader import Reader
from upwell.evaluation.verify import Verdict, judge
from upwell.events.codec import encode
from upwell.local import own_models
from upwell.local.errors import StackError
from upwell.local.paths import default_home
from upwell.local.publisher import Publisher
from upwell.local.stack import Endpoints, Stack
from upwell.local.supervisor import State, Supervisor
from upwell.settings import Settings, Telemetry
from upwell.store import database, migrations
from upwell.telemetry import logs

WORKERS = ("items", "interactions", "content", "trends")
JUDGE = {"content.judge": "terms"}
"""Texts about films of MovieLens are written from facts and checked; the demo does without two models more."""
TICK_S = 0.25
LOOK_S = 1.0
"""How often offsets are asked for while the stream runs."""
PATIENCE_S = 120.0
"""A run in which nothing moves for so long is given up."""
SILENT_S = 10.0
"""A broker that has not answered for so long is worth a line."""
FLUSH_PATIENCE_S = 15.0
"""How long the last write-behind may take to reach Postgres."""


class DemoError(Exception):
    """The run cannot go on; the message says why, and shows the end of the log concerned."""


class Show(Protocol):
    """Where people see what goes on."""

    def say(self, line: str) -> None:
        """Something happened."""

    def tick(self, demo: Demo) -> None:
        """Some time passed; called about four times a second once there is something to see."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    dataset: Dataset
    speed: float | None
    """Interactions a second; None: as fast as it goes."""
    keep: bool = False
    """The servers and their data stay."""
    watch: bool = False
    """Somebody looks at single users."""
    config: Path | None = None
    sets: Mapping[str, str] = field(default_factory=dict)
    """Settings for the workers, dotted name to value."""
    rankers: int = 1
    """Workers of interactions; of the others there is one each."""


@dataclass(frozen=True)
class Report:
    """What a run came to. Counted from outside; times in seconds, latencies in ms."""

    events: int
    dead_letters: int
    rankings: int
    contents: int
    users: int
    items: int
    seconds: float
    events_per_second: float
    latency_ms: dict[str, float | None]
    lost: int
    duplicated: int
    contents_by_source: dict[str, int]
    contents_by_format: dict[str, int]
    triggers: int
    """Causes of content; those that are no content were skipped, to keep up."""
    candidates: int
    rejected: int
    """Candidate texts, and those of them that the check refused."""
    repeats: int
    """Input records that repeat an event."""
    unread_rows: int
    restarts: dict[str, int]
    details: list[str]
    """What was lost or duplicated, in words."""


def models_asked(settings: Settings) -> list[str]:
    """The models on Triton that workers with these settings ask."""
    triton, modalities, formats = settings.triton, settings.items.modalities, settings.content.formats
    models = [triton.text_encoder]
    if settings.generator.kind == "triton" and not settings.generator.url:
        models.append(settings.generator.model or triton.text_generator)
    if modalities != ["text"]:
        encoders = {"image": "image_encoder", "audio": "audio_encoder", "speech": "speech_recognizer"}
        models += [triton.item_features, *(encoders[name] for name in modalities if name in encoders)]
    if set(formats) & {"poster", "clip"}:
        models.append(triton.style_transfer)
    if set(formats) & {"speech", "clip"}:
        models.append(triton.speech_synthesizer)
    if settings.content.judge == "models":
        models += [triton.text_safety, triton.image_safety]
    return models


def _unit(name: str, slot: int) -> str:
    return f"{name}-{slot}" if slot else name


class Demo:
    """One run. `with Demo(plan, show) as demo: report = demo.run()`."""

    def __init__(self, plan: Plan, show: Show, home: Path | None = None) -> None:
        self.plan, self.show = plan, show
        self.stack = Stack(home or default_home() / "demo")
        self.name = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self.phase = "starting"
        self.began: float | None = None
        """When the first interaction was about to be published, on the monotonic clock."""
        self.settings = Settings()
        self.kafka = self.settings.kafka
        """The same, for clients of this process: what goes on with the broker is on the screen, not in its logs."""
        self.publisher: Publisher | None = None
        self.reader: Reader
        self.drain: Drain
        self.supervisor: Supervisor | None = None
        self._joined = False
        self._looked = 0.0
        self._answered: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Workers first, so that they commit and leave while the servers still answer."""
        if self.publisher is not None:
            self.publisher.stop()
        if self.supervisor is not None:
            # After Ctrl-C nobody waits for batches in hand: nothing is lost with them, the log has them.
            self.supervisor.close(kill=kind is not None)
        # Clients are let go while their broker is there; they would look for it without end.
        if hasattr(self, "reader"):
            self.reader.stop()
        if hasattr(self, "drain"):
            self.drain.close()
        if self._joined or (self.plan.keep and kind is None):
            return
        self.stack.stop()
        failed = kind is not None and issubclass(kind, Exception)
        if not failed:
            self.stack.wipe()

    def run(self) -> Report:
        """Start everything, publish, wait until all is done, verify.

        Raises:
            DemoError, StackError: it cannot go on.

        """
        endpoints = self._start_servers()
        self._prepare(endpoints)
        self._start_workers()
        self._publish_items()
        return self._stream()

    def _start_servers(self) -> Endpoints:
        self.phase = "starting the servers"
        self._joined = self.stack.status()["running"]
        if not self._joined:
            self.stack.wipe()
        # Those that the workers ask, no others: each is a process with a few hundred megabytes.
        settings = Settings.load(self.plan.config, {**JUDGE, **self.plan.sets})
        served = own_models.resolve(settings.models, self.show.say)
        return self.stack.start(
            models=models_asked(settings), served=served, detached=self.plan.keep, progress=self.show.say
        )

    def _prepare(self, endpoints: Endpoints) -> None:
        """Topics and tables of this run's own."""
        self.phase = "creating topics and tables"
        own = {
            "kafka.bootstrap_servers": endpoints.kafka,
            "kafka.topic_prefix": f"{self.name}.",
            "kafka.group_prefix": self.name,
            "postgres.dsn": endpoints.postgres,
            "postgres.db_schema": self.name.replace("-", "_"),
            "triton.url": endpoints.triton,
        }
        self.settings = Settings.load(self.plan.config, {**JUDGE, **self.plan.sets, **own})
        logs.configure(Telemetry(log_level="error"))
        options = {**self.settings.kafka.options, "log_level": "0"}
        self.kafka = self.settings.kafka.model_copy(update={"options": options})
        topics.create(self.kafka, clients.admin(self.kafka))
        migrations.migrate(self.settings.postgres)
        self.reader = Reader(self.kafka, watch=self.plan.watch).start()
        self.drain = Drain(self.kafka, self.reader)
        self.show.say("topics and tables are ready")

    def environment(self) -> dict[str, str]:
        """Variables with which `upwell` commands work on this run's topics and tables."""
        kafka, postgres = self.settings.kafka, self.settings.postgres
        sets = {f"UPWELL_{name.upper().replace('.', '__')}": value for name, value in self.plan.sets.items()}
        # Options of libraries have names with dots, which variables cannot say; the workers get them as flags.
        return {name: value for name, value in sets.items() if name.count("__") == 1} | {
            "UPWELL_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "UPWELL_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "UPWELL_KAFKA__GROUP_PREFIX": kafka.group_prefix,
            "UPWELL_POSTGRES__DSN": postgres.dsn.get_secret_value(),
            "UPWELL_POSTGRES__DB_SCHEMA": postgres.db_schema,
            "UPWELL_TRITON__URL": self.settings.triton.url,
            "UPWELL_CONTENT__JUDGE": self.settings.content.judge,
            "UPWELL_MEDIA__STORE": self.settings.media.store or f"file://{self.stack.home}/media",
        }

    def worker_log(self, name: str) -> Path:
        return self.stack.log_path(f"worker-{name}")

    def _start_workers(self) -> None:
        self.phase = "starting the workers"
        self.supervisor = Supervisor()
        sets = [part for name, value in self.plan.sets.items() for part in ("--set", f"{name}={value}")]
        config = ["--config", str(self.plan.config)] if self.plan.config else []
        # The marker lets the next run find and end what a killed one left.
        env = {**os.environ, **self.environment(), "UPWELL_STACK": str(self.stack.home)}
        for name in WORKERS:
            for slot in range(self.plan.rankers if name == "interactions" else 1):
                self.supervisor.start(
                    f"worker-{_unit(name, slot)}",
                    [sys.executable, "-m", "upwell.cli.main", "worker", name, "--slot", str(slot), *config, *sets],
                    env=env,
                    log_path=self.worker_log(_unit(name, slot)),
                )

    def _publish_items(self) -> None:
        """Items go in while the workers start; the stream waits until both are done."""
        self.phase = "embedding items"
        now = time.time_ns() // 1_000_000
        records = []
        for item in self.plan.dataset.items:
            item.ts = now
            records.append((item.item_id.encode(), encode(item)))
        self._publish(Topic.ITEMS, records, None)
        began = time.monotonic()
        self._await(lambda: self._looking(0.2) and self._items_done(len(records)), "the items to be embedded")
        refused = len(self.reader.dead_letters)
        self.show.say(
            f"{len(self.reader.features):,} items embedded in {time.monotonic() - began:.1f} s"
            + (f", {refused:,} refused" if refused else "")
        )
        self._await(self.drain.present, "the workers to join their groups")
        self.show.say("the workers have joined their groups")

    def _items_done(self, published: int) -> bool:
        publisher = self.publisher
        return (
            publisher is not None
            and publisher.finished
            and self.reader.records[Topic.ITEMS] >= published
            and self.drain.latest["items"].lag == 0
            and len(self.reader.features) + len(self.reader.dead_letters) >= len(self.plan.dataset.items)
        )

    def _stream(self) -> Report:
        self.phase = "streaming"
        records = [(event.user_id.encode(), encode(event)) for event in self.plan.dataset.interactions]
        self.began = time.monotonic()
        publisher = self._publish(Topic.INTERACTIONS, records, self.plan.speed)
        self._await(lambda: self._looking(LOOK_S) and publisher.finished, "the interactions to be published")
        self.phase = "draining"
        self._await(self._drained, "the workers to finish")
        seconds = time.monotonic() - self.began
        self.phase = "verifying"
        return self._report(seconds, self._verdict())

    def _publish(self, topic: Topic, records: Sequence[tuple[bytes, bytes]], speed: float | None) -> Publisher:
        self.publisher = Publisher(self.kafka, topics.real(self.kafka, topic), records, speed)
        self.publisher.start()
        return self.publisher

    def _looking(self, every: float) -> bool:
        """Keep the standings fresh; always true."""
        now = time.monotonic()
        if now - self._looked >= every:
            self._looked = now
            try:
                self.drain.standings()
                self._answered = now
            except KafkaException as error:
                self._answered = self._answered or now
                if now - self._answered > SILENT_S:
                    self._answered = now
                    self.show.say(f"Kafka does not answer, waiting: {error.args[0].str()}")
        return True

    def _drained(self) -> bool:
        """Everything is asked for only when the little that is cheap to ask says that it may be over."""
        self._looking(0.2)
        return all(standing.lag == 0 for standing in self.drain.latest.values()) and self.drain.drained()

    def _await(self, done: Callable[[], bool], what: str) -> None:
        moved, mark = time.monotonic(), None
        while not done():
            self._check()
            self.show.tick(self)
            now = (self.reader.records.total(), tuple(self.drain.latest.values()))
            if now != mark:
                moved, mark = time.monotonic(), now
            elif time.monotonic() - moved > PATIENCE_S:
                raise DemoError(f"nothing has moved for {PATIENCE_S:.0f} s while waiting for {what}.{self._tails()}")
            time.sleep(TICK_S if self.phase == "streaming" else TICK_S / 5)

    def _check(self) -> None:
        """Notice at once what will not get better by waiting."""
        for failure in (self.reader.failure, self.publisher.failure if self.publisher else None):
            if failure is not None:
                raise DemoError(str(failure)) from failure
        if self.supervisor is not None:
            for name, process in self.supervisor.processes.items():
                if process.state is State.FINISHED:
                    raise DemoError(f"{name} ended with code {process.exit_code}.{self.stack.log_tail(name)}")

    def _tails(self) -> str:
        standings = self.drain.latest
        late = [name for name in WORKERS if name not in standings or standings[name].lag]
        return "".join(self.stack.log_tail(f"worker-{name}") for name in late)

    def _verdict(self) -> Verdict:
        """Profiles are written behind the log: wait for them within their bound and more, then count."""
        expected, _ = self.reader.observed.counted(self.reader.dead_interactions())
        deadline = time.monotonic() + FLUSH_PATIENCE_S
        while True:
            verdict = judge(expected, self.reader.numbering, self._stored())
            if not verdict.lost or time.monotonic() > deadline:
                return verdict
            time.sleep(TICK_S)

    def _stored(self) -> dict[str, int]:
        try:
            with database.connect(self.settings.postgres, vectors=False) as connection:
                return dict(connection.execute(database.sql("profile_versions").encode()).fetchall())
        except psycopg.OperationalError as error:
            raise DemoError(f"the profiles cannot be read: {error}") from error

    def _report(self, seconds: float, verdict: Verdict) -> Report:
        reader = self.reader
        dead = reader.dead_interactions()
        _, repeats = reader.observed.counted(dead)
        waits = reader.observed.latencies(dead)
        waits = waits[waits >= 0]
        p50, p99 = (round(float(q), 1) for q in np.percentile(waits, (50, 99))) if len(waits) else (None, None)
        events = reader.records[Topic.INTERACTIONS]
        return Report(
            events=events,
            dead_letters=len(reader.dead_letters),
            rankings=reader.records[Topic.RANKINGS],
            contents=reader.records[Topic.CONTENTS],
            users=len(reader.numbering.last),
            items=len(reader.features),
            seconds=round(seconds, 3),
            events_per_second=round(events / seconds, 1),
            latency_ms={"p50": p50, "p99": p99},
            lost=verdict.lost,
            duplicated=verdict.duplicated,
            contents_by_source=dict(Counter(content.source for content in reader.contents)),
            contents_by_format=dict(Counter(content.format for content in reader.contents)),
            triggers=self.triggers,
            candidates=sum(content.candidates for content in reader.contents),
            rejected=sum(content.rejected for content in reader.contents),
            repeats=repeats,
            unread_rows=len(self.plan.dataset.refused),
            restarts=self.restarts(),
            details=verdict.details,
        )

    @property
    def triggers(self) -> int:
        """Causes of content so far."""
        return sum(self.reader.records[topic] for topic in topics.TRIGGERS.values())

    def worker_restarts(self, name: str) -> int:
        process = self.supervisor.processes.get(f"worker-{name}") if self.supervisor else None
        return process.restarts if process else 0

    def restarts(self) -> dict[str, int]:
        """Workers and servers that had to be started again."""
        found: dict[str, Any] = {
            name: process.restarts for name, process in (self.supervisor.processes if self.supervisor else {}).items()
        }
        found |= {name: service["restarts"] for name, service in self.stack.status()["services"].items()}
        return {name: count for name, count in found.items() if count}


__all__ = ["Demo", "DemoError", "Plan", "Report", "Show", "StackError"]
