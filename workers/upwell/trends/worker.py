"""The trends worker, a Faust app: `statistics` records in, `Trend` records per key and window out to `trends`.

A batch is counted, stored in the table's changelog and published; when all of it is in the log, its offsets are
committed. At least once: readers are idempotent by (key, window, sequence), and counts are exact after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import TP, EventT

from upwell.bus import clients, dead_letters, identity, topics
from upwell.bus.bad_data import BadData
from upwell.bus.errors import Inconsistent, Unavailable
from upwell.bus.topics import Topic
from upwell.events.codec import DecodeError, decode, encode
from upwell.events.contracts import STATISTICS_VERSION, Statistics
from upwell.lifecycle import Stop
from upwell.settings import Settings
from upwell.telemetry import metrics
from upwell.trends.counts import Changes, Counts
from upwell.trends.table import Publisher, Table
from upwell.trends.transport import Transport, broker, credentials

log = structlog.get_logger("upwell.trends")

WORKER = "trends"
COMMIT_S = 0.5
LOOK_S = 0.1
SAME_LOGGER_S = 5.0
DROPPED_S = 5.0
"""Records that were fetched so long ago, and have not reached the agent, were dropped by Faust on their way: they are
fetched again. It does so where a record comes in at the very moment in which it has restored its tables."""


def run(settings: Settings, slot: int, stop: Stop, *, metrics_port: int = 0) -> None:
    """Count until told to stop.

    Raises:
        Unavailable: Kafka failed for longer than its clients retry; nothing beyond the commit was lost.
        Inconsistent: a newer release has written statistics or counts; nothing of them was counted.
        ConfigError: a security option that Faust's client cannot do.
    """
    asyncio.run(Pipeline(settings, slot).serve(stop, metrics_port))


class Pipeline:
    """Take a batch, count it, store and publish what changed, mark it done."""

    def __init__(self, settings: Settings, slot: int) -> None:
        self._settings = settings
        kafka = settings.kafka
        self._topic = topics.real(kafka, Topic.STATISTICS)
        self._trends = topics.real(kafka, Topic.TRENDS)
        admin = clients.admin(kafka)
        self._topic_id = identity.topic_id(admin, self._topic)
        partitions = len(admin.list_topics(self._topic, timeout=30).topics[self._topic].partitions)
        self._publisher = Publisher(clients.plain_producer(kafka))
        self._counts: dict[int, Counts] = {}
        self._bad_data = BadData(WORKER, settings.dead_letters)
        self._failure: BaseException | None = None
        self._in_hand = False
        """A batch is being counted."""
        self._outstanding: tuple[dict[TP, int], float] = ({}, 0.0)
        """What was fetched and is not done, and since when (monotonic) it has been the same."""
        self._app = _app(settings, slot)
        self._table = Table(
            self._app,
            # Another width is another count: it starts anew, and neither overwrites the other.
            name=f"counts-{settings.trends.window_s}s",
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            on_recover=self._recovered,
        )
        self._app.tables.add(self._table)
        source = self._app.topic(self._topic, value_type=bytes, value_serializer="raw", key_serializer="raw")
        self._app.agent(source, name="count")(self._count)

    async def serve(self, stop: Stop, metrics_port: int) -> None:
        """Run the app until told to stop, or until it fails."""
        app = self._app
        try:
            await app.start()
            log.info("trends.ready", metrics_port=metrics_port)
            while not stop and not app.should_stop and self._failure is None:
                metrics.LAG.labels(WORKER).set(app.consumer.lag())
                await self._fetch_dropped()
                await asyncio.sleep(LOOK_S)
        except KafkaError as error:
            raise Unavailable(f"cannot start: {error!r}") from error
        finally:
            crashed = app.crash_reason
            await app.stop()
        if self._failure is not None:
            raise self._failure
        if crashed is not None:
            raise Unavailable(f"the Faust app stopped: {crashed!r}") from crashed

    async def _fetch_dropped(self) -> None:
        app, now = self._app, time.monotonic()
        settled = not (app.rebalancing or self._in_hand) and app.consumer.flow_active
        outstanding = app.consumer.outstanding() if settled else {}
        known, since = self._outstanding
        if outstanding != known:
            self._outstanding = (outstanding, now)
        elif outstanding and now - since > DROPPED_S + self._settings.trends.publish_s:
            for tp, offset in outstanding.items():
                log.warning("trends.fetched_again", partition=tp.partition, offset=offset)
                # Where they were only late, they come twice: counts know their offsets.
                await app.consumer.seek(tp, offset)
            self._outstanding = ({}, now)

    async def _recovered(self) -> None:
        """The table was read anew from its changelog: what was derived from it is too."""
        self._counts.clear()

    async def _count(self, stream: Any) -> None:
        """The agent. Never returns to Faust with an error: that would restart it behind the failed batch."""
        trends = self._settings.trends
        try:
            async for events in stream.noack_take(trends.batch_records, within=trends.publish_s):
                self._in_hand = True
                try:
                    await self._batch(events)
                finally:
                    self._in_hand = False
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("trends.failed")
            self._failure = error
            await asyncio.Event().wait()

    async def _batch(self, events: Sequence[EventT]) -> None:
        # After a rebalance, the partition's new owner counts what is left in hand from before.
        generation = self._app.consumer_generation_id
        by_partition: dict[TP, list[EventT]] = {}
        for event in events:
            if event.message.generation_id == generation:
                by_partition.setdefault(event.message.tp, []).append(event)
        by_partition = {tp: whole for tp, mine in by_partition.items() if (whole := self._whole(tp, mine))}
        changed = [self._partition(tp, mine) for tp, mine in by_partition.items()]
        # A count is stored before it is published: a sequence that a reader has seen is never given out twice.
        await self._publisher.flush()
        for changes in changed:
            self._publish(changes)
        await self._publisher.flush()
        if self._app.consumer_generation_id == generation:
            for tp, mine in by_partition.items():
                done = self._app.consumer.done
                done[tp] = max(done.get(tp, 0), mine[-1].message.offset + 1)

    def _whole(self, tp: TP, events: list[EventT]) -> list[EventT]:
        """What may be counted: nothing behind a record that was dropped on its way here, since a count that knows a later
        offset takes an earlier one for counted. What is left out is fetched again with it (`_fetch_dropped`)."""
        missing = self._app.consumer.first_missing(tp, [event.message.offset for event in events])
        if missing is None:
            return events
        log.warning("trends.dropped", partition=tp.partition, offset=missing)
        return [event for event in events if event.message.offset < missing]

    def _partition(self, tp: TP, events: Sequence[EventT]) -> Changes:
        counts = self._counts.get(tp.partition)
        if counts is None:
            trends = self._settings.trends
            counts = self._counts[tp.partition] = Counts(
                self._table.data,
                tp.partition,
                self._topic_id,
                trends.window_s * 1000,
                trends.keep_windows,
                trends.grace_s,
            )
            counts.restore(self._table.keys_of(tp.partition))
        records = []
        refused: list[tuple[int, str]] = []
        last = -1
        for number, event in enumerate(events):
            offset = event.message.offset
            if offset > last:
                try:
                    records.append((offset, self._read(event)))
                except DecodeError as error:
                    refused.append((number, str(error)))
            last = max(last, offset)
        why = f"{tp.topic} [{tp.partition}] up to offset {last}: {refused[-1][1]}" if refused else ""
        self._bad_data.check(len(events), [number for number, _ in refused], why)
        self._bad_data.passed()
        for number, why in refused:
            self._refuse(events[number], why)
        metrics.RECORDS.labels(WORKER).inc(len(events))
        metrics.BATCH_RECORDS.labels(WORKER).observe(len(events))
        changes = counts.apply(records)
        metrics.TREND_DELTAS.inc(changes.deltas)
        metrics.TREND_LATE.inc(changes.late)
        metrics.TREND_COUNTS.set(sum(map(len, self._counts.values())))
        self._table.put(self._publisher, tp.partition, changes.stored)
        return changes

    def _publish(self, changes: Changes) -> None:
        for found in changes.trends:
            self._publisher.send(self._trends, found.key.encode("utf-8", "surrogatepass"), encode(found))
        metrics.OUTPUTS.labels(WORKER, self._trends).inc(len(changes.trends))

    def _read(self, event: EventT) -> Statistics:
        """
        Raises:
            DecodeError: it is no record of statistics.
            Inconsistent: a newer release has written it.
        """
        message = event.message
        found = decode(Statistics, message.value or b"")
        if found.state_version > STATISTICS_VERSION:
            what = f"the record of statistics at offset {message.offset} of partition {message.partition}"
            raise Inconsistent.newer(what, found.state_version, STATISTICS_VERSION)
        return found

    def _refuse(self, event: EventT, why: str) -> None:
        message = event.message
        log.warning("trends.dead_letter", partition=message.partition, offset=message.offset, reason=why)
        metrics.DEAD_LETTERS.labels(WORKER, "decode").inc()
        own = list(dict(message.headers or []).items())
        headers = dead_letters.headers(message.topic, message.partition, message.offset, own, "decode", why)
        self._publisher.send(topics.dead_letters(self._topic), message.key, message.value, headers=headers)


class _App(faust.App):  # type: ignore[misc]
    """Tables are in memory: no folder is made for them, which a killed worker would leave behind."""

    async def on_first_start(self) -> None:
        pass


def _app(settings: Settings, slot: int) -> faust.App:
    """Faust with everything off that isn't needed: no web server, no leader topic, no handlers of its own."""
    kafka = settings.kafka
    _forward_logs()
    app = _App(
        clients.group_id(kafka, WORKER),
        broker=broker(kafka),
        broker_credentials=credentials(kafka),
        broker_client_id="upwell-trends",
        broker_commit_interval=COMMIT_S,
        broker_session_timeout=kafka.session_timeout_ms / 1000,
        broker_heartbeat_interval=max(0.3, kafka.session_timeout_ms / 5000),
        consumer_group_instance_id=f"{clients.group_id(kafka, WORKER)}-{slot}",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=8 * 1024 * 1024,
        topic_replication_factor=kafka.replication_factor,
        topic_disable_leader=True,
        store="memory://",
        web_enabled=False,
        stream_wait_empty=False,
        autodiscover=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


class _Forward(logging.Handler):
    """Faust and aiokafka log by the standard library: their warnings join the others, one per logger and while, for
    while a broker is away they say so twenty times a second."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, float] = {}
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said.get(record.name, -SAME_LOGGER_S) < SAME_LOGGER_S:
            self._left_out += 1
            return
        self._said[record.name] = now
        left_out, self._left_out = self._left_out, 0
        log.warning("trends.library", logger=record.name, message=record.getMessage(), left_out=left_out)


def _forward_logs() -> None:
    for name in ("faust", "aiokafka", "mode", "asyncio"):
        library = logging.getLogger(name)
        if not any(isinstance(handler, _Forward) for handler in library.handlers):
            library.addHandler(_Forward())
            library.propagate = False
