"""Thousands of items at once onto a stack of its own, while interactions flow; figures, taken from outside, out.

Servers and workers are the real ones; however it ends, nothing of it stays.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import numpy as np
import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from upwell.bus import clients, topics
from upwell.bus.topics import Topic
from upwell.evaluation.made_items import made_clicks, made_items
from upwell.evaluation.reader import Place, Reader
from upwell.events.codec import encode
from upwell.events.contracts import Item
from upwell.inference.features import MODALITIES, ItemInput
from upwell.items.cleaning import clean_item
from upwell.items.embedding import GROUP_MEDIA
from upwell.items.reading import Reading
from upwell.items.worker import connect
from upwell.local.errors import StackError
from upwell.local.publisher import Publisher
from upwell.local.stack import Endpoints, Stack
from upwell.local.supervisor import State, Supervisor
from upwell.media.prepare import Preparer
from upwell.settings import Settings, Telemetry
from upwell.store import migrations
from upwell.telemetry import logs

WORKERS: Final = ("items", "interactions")
MODELS: Final = ("text_encoder", "image_encoder", "audio_encoder", "speech_recognizer", "item_features")
USERS: Final = 200
SETTLED_ITEMS: Final = 256
"""Items that are there before: what the interactions are about."""
LONGEST_S: Final = 3_600
PATIENCE_S: Final = 180.0
LOOK_S: Final = 0.25
MEGABYTE: Final = 2**20


@dataclass(frozen=True)
class Plan:
    """What to run. `rate`: interactions a second; `quiet_s`: how long they flow before the items come."""

    items: int = 10_000
    rate: float = 50.0
    quiet_s: float = 20.0
    rounds: int = 3
    round_items: int = 2_048
    """Afterwards, in every round, so many items go straight through the encoder, and as many others the whole way: what
    else the machine does meets both."""
    seed: int = 1
    sets: dict[str, str] | None = None


@dataclass(frozen=True)
class Report:
    """`latency_ms`: of `before` and `during` the flood, p50 and p99 from an event's append to its ranking, and how many."""

    items: int
    features: int
    refused: int
    seconds: float
    items_per_s: float
    rounds: list[dict[str, float]]
    """Items a second of the `encoder` alone, and of the `whole` way."""
    ratio: float
    """The whole way by the encoder alone: the median of the rounds."""
    worker_mb: dict[str, float]
    """Resident memory of the items worker: before the flood, and at its peak."""
    decoder_mb: dict[str, float]
    """... and of its decoding processes."""
    latency_ms: dict[str, dict[str, float]]
    unranked: int
    """Events without a ranking at the end."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Flood:
    """One run. `with Flood(plan, say) as flood: report = flood.run()`.

    Args:
        stack: servers that are there; by default ones are started, and ended.
        name: prefix of topics and groups, and schema of the tables.
    """

    def __init__(
        self, plan: Plan, say: Callable[[str], None] = lambda _: None, stack: Stack | None = None, name: str = "flood"
    ) -> None:
        self.plan, self.say, self.name = plan, say, name
        self._folder = TemporaryDirectory(prefix="upwell-flood-")
        self._stack = stack
        self._own: Stack | None = None
        self._supervisor = Supervisor()
        self._publishers: list[Publisher] = []
        self._reader: Reader | None = None
        self._peaks = {"worker": 0.0, "decoders": 0.0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for publisher in self._publishers:
            publisher.stop()
        self._supervisor.close(kill=kind is not None)
        if self._reader is not None:
            self._reader.stop()
        if self._own is not None:
            self._own.wipe()
        self._folder.cleanup()

    def run(self) -> Report:
        """Start everything, flood, wait until all items and events are done.

        Raises:
            StackError: a server or a worker does not come up, or nothing moves any more.
        """
        media = Path(self._folder.name) / "media"
        media.mkdir()
        self.say(f"making {self.plan.items:,} items")
        settled = list(made_items(SETTLED_ITEMS, media, self.plan.seed + 1, "settled-"))
        flood = list(made_items(self.plan.items, media, self.plan.seed))
        more = list(made_items(2 * self.plan.rounds * self.plan.round_items, media, self.plan.seed + 2, "more-"))
        endpoints = self._servers()
        settings = self._prepare(endpoints, media)
        self._start_workers(endpoints, media)
        self._send_items(settings, settled)
        self._await(lambda: self._done() >= len(settled), "the first items")
        ids = [item.item_id for item in settled]
        clicks = made_clicks(int(self.plan.rate * LONGEST_S), ids, USERS, time.time_ns() // 1_000_000, self.plan.seed)
        self._publish(settings, Topic.INTERACTIONS, [(c.user_id.encode(), encode(c)) for c in clicks], self.plan.rate)
        self._await(lambda: self.reader.records[Topic.RANKINGS] > USERS, "the first rankings")
        self.say(f"{self.plan.rate:g} interactions a second, and no new items, for {self.plan.quiet_s:g} s")
        since = _now()
        self._look_on(self.plan.quiet_s)
        before = (since, _now())
        quiet = self._memory()
        self._peaks = dict(quiet)
        seconds, during = self._flood(settings, flood)
        peaks = dict(self._peaks)
        features = len(self.reader.features) - len(settled)
        size = self.plan.round_items
        rounds = []
        for start in range(0, len(more), 2 * size):
            encoder = self._encoder_alone(settings, more[start : start + size])
            whole_s, _ = self._flood(settings, more[start + size : start + 2 * size])
            rounds.append({"encoder": round(encoder, 2), "whole": round(size / whole_s, 2)})
        for publisher in self._publishers:
            publisher.stop()
        ends = self._ends(settings)
        self._await(lambda: all(self.reader.read_to.get(place, 0) >= end for place, end in ends.items()), "the reader")
        self._await(lambda: not self._unranked(), "the last rankings")
        return Report(
            items=len(flood), features=features, refused=len(self.reader.dead_letters), seconds=round(seconds, 1),
            items_per_s=round(len(flood) / seconds, 2), rounds=rounds,
            ratio=round(statistics.median(one["whole"] / one["encoder"] for one in rounds), 3),
            worker_mb={"before": quiet["worker"], "peak": peaks["worker"]},
            decoder_mb={"before": quiet["decoders"], "peak": peaks["decoders"]},
            latency_ms={"before": self._latency(*before), "during": self._latency(*during)}, unranked=self._unranked(),
        )  # fmt: skip

    def _servers(self) -> Endpoints:
        if self._stack is not None:
            return self._stack.endpoints()
        self.say("starting the servers")
        self._own = self._stack = Stack(Path(self._folder.name) / "stack", ephemeral=True)
        return self._own.start(models=MODELS, progress=self.say)

    def _prepare(self, endpoints: Endpoints, media: Path) -> Settings:
        logs.configure(Telemetry(log_level="error"))
        settings = Settings.load(None, self._settings(endpoints, media))
        topics.create(settings.kafka, clients.admin(settings.kafka))
        migrations.migrate(settings.postgres)
        self._reader = Reader(settings.kafka).start()
        return settings

    def _settings(self, endpoints: Endpoints, media: Path) -> dict[str, str]:
        return {
            "items.modalities": json.dumps(MODALITIES),
            "media.roots": json.dumps([str(media)]),
            **(self.plan.sets or {}),
            "kafka.bootstrap_servers": endpoints.kafka, "kafka.topic_prefix": f"{self.name}.",
            "kafka.group_prefix": self.name, "postgres.dsn": endpoints.postgres,
            "postgres.db_schema": self.name.replace("-", "_"), "triton.url": endpoints.triton,
        }  # fmt: skip

    def _start_workers(self, endpoints: Endpoints, media: Path) -> None:
        assert self._stack is not None
        sets = [
            part for name, value in self._settings(endpoints, media).items() for part in ("--set", f"{name}={value}")
        ]
        for name in WORKERS:
            self._supervisor.start(
                f"worker-{name}",
                [sys.executable, "-m", "upwell.cli.main", "worker", name, *sets],
                env={**os.environ, "UPWELL_STACK": str(self._stack.home)},
                log_path=self._log(name),
            )

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.log"

    @property
    def reader(self) -> Reader:
        assert self._reader is not None
        return self._reader

    def _publish(
        self, settings: Settings, topic: Topic, records: Sequence[tuple[bytes, bytes]], rate: float | None
    ) -> Publisher:
        publisher = Publisher(settings.kafka, topics.real(settings.kafka, topic), records, rate)
        self._publishers.append(publisher)
        publisher.start()
        return publisher

    def _send_items(self, settings: Settings, items: Sequence[Item]) -> Publisher:
        now = _now()
        for item in items:
            item.ts = now
        return self._publish(settings, Topic.ITEMS, [(item.item_id.encode(), encode(item)) for item in items], None)

    def _flood(self, settings: Settings, items: Sequence[Item]) -> tuple[float, tuple[int, int]]:
        """Seconds until all have features or are refused, and when that was."""
        have, since, began = self._done(), _now(), time.monotonic()
        self.say(f"{len(items):,} items at once")
        self._send_items(settings, items)
        self._await(lambda: self._done() - have >= len(items), "the items", progress=(have, len(items)))
        return time.monotonic() - began, (since, _now())

    def _encoder_alone(self, settings: Settings, items: Sequence[Item]) -> float:
        """Items a second of the same inputs, decoded beforehand, straight through the encoder as the worker asks it."""
        self.say(f"{len(items):,} of the items straight through the encoder")
        encoder = connect(settings)
        reading = Reading(Preparer(settings.media), settings.items.modalities, settings.items.media_patience_s)
        try:
            reading.begin()
            inputs = [found for found in reading([clean_item(item) for item in items]) if isinstance(found, ItemInput)]
            began = time.perf_counter()
            for start in range(0, len(inputs), GROUP_MEDIA):
                encoder.encode(inputs[start : start + GROUP_MEDIA])
            return len(inputs) / (time.perf_counter() - began)
        finally:
            reading.close()
            encoder.close()

    def _ends(self, settings: Settings) -> dict[Place, int]:
        """Next offset of each partition of the interactions."""
        name = topics.real(settings.kafka, Topic.INTERACTIONS)
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in self.reader.places if place[0] == name}
        admin = clients.admin(settings.kafka)  # held until all have answered: without its client no answer comes
        answers = admin.list_offsets(asked)
        return {(found.topic, found.partition): answer.result().offset for found, answer in answers.items()}

    def _done(self) -> int:
        return len(self.reader.features) + len(self.reader.dead_letters)

    def _unranked(self) -> int:
        return int((self.reader.observed.latencies(self.reader.dead_interactions()) < 0).sum())

    def _latency(self, since: int, until: int) -> dict[str, float]:
        waits = self.reader.observed.latencies(self.reader.dead_interactions(), since_ms=since, until_ms=until)
        waits = waits[waits >= 0]
        p50, p99 = np.percentile(waits, [50, 99]).tolist() if len(waits) else (float("nan"), float("nan"))
        return {"p50": round(p50, 1), "p99": round(p99, 1), "events": len(waits)}

    def _memory(self) -> dict[str, float]:
        """Resident megabytes of the items worker and of its decoders."""
        try:
            worker = psutil.Process(self._supervisor.processes["worker-items"].pid or 0)
            decoders = sum(child.memory_info().rss for child in worker.children(recursive=True))
            found = {"worker": worker.memory_info().rss / MEGABYTE, "decoders": decoders / MEGABYTE}
        except psutil.NoSuchProcess:
            return {"worker": 0.0, "decoders": 0.0}
        found = {name: round(size, 1) for name, size in found.items()}
        self._peaks = {name: max(self._peaks[name], size) for name, size in found.items()}
        return found

    def _look_on(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._await(lambda: time.monotonic() >= until, "time to pass")

    def _await(self, done: Callable[[], bool], what: str, progress: tuple[int, int] | None = None) -> None:
        moved, mark, told = time.monotonic(), -1, time.monotonic()
        speeds: deque[tuple[float, int]] = deque(maxlen=120)
        while not done():
            self._check()
            self._memory()
            now = time.monotonic()
            speeds.append((now, self._done()))
            if progress and now - told > 5:
                told = now
                speed = (speeds[-1][1] - speeds[0][1]) / max(1e-9, speeds[-1][0] - speeds[0][0])
                self.say(f"{self._done() - progress[0]:,} of {progress[1]:,} items, {speed:.0f} a second")
            if self.reader.records.total() != mark:
                moved, mark = now, self.reader.records.total()
            elif now - moved > PATIENCE_S:
                raise StackError(f"nothing has moved for {PATIENCE_S:.0f} s while waiting for {what}.{self._tails()}")
            time.sleep(LOOK_S)

    def _check(self) -> None:
        for failure in (self.reader.failure, *(publisher.failure for publisher in self._publishers)):
            if failure is not None:
                raise StackError(str(failure)) from failure
        for name in WORKERS:
            process = self._supervisor.processes.get(f"worker-{name}")
            if process is not None and process.state is State.FINISHED:
                raise StackError(f"the {name} worker ended with code {process.exit_code}.{self._tails()}")

    def _tails(self) -> str:
        return "".join(
            "\n" + "\n".join(self._log(n).read_text().splitlines()[-8:]) for n in WORKERS if self._log(n).exists()
        )


def _now() -> int:
    return time.time_ns() // 1_000_000
