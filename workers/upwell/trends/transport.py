"""Faust's aiokafka transport, reading committed records only and committing up to the end of the log.

Faust reads uncommitted records unless its own exactly-once mode is on, and has no setting for that. And it commits the
offset after the last record: the markers of transactions that follow it would look like a lag that never ends.
"""

from __future__ import annotations

import ssl
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiokafka
from faust import auth
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from yarl import URL

from upwell.settings import ConfigError, Kafka

IDLE_FETCH_S = 0.25
"""Faust waits this long for records before it looks at the position again."""


@dataclass(slots=True)
class Fetched:
    """How far one partition has been read since it was assigned."""

    data: int = -1
    """Largest offset of a record handed over."""
    position: int = -1
    """Offset of the next fetch: beyond `data` by what isn't a record, transaction markers and aborted records."""
    _open: deque[int] = field(default_factory=deque)
    """Offsets of records handed over that are not done, ascending."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Records are handed over in the consumer's thread, and counted in Faust's."""

    def hand_over(self, offsets: Sequence[int]) -> None:
        """Note what was fetched; after a seek back, records come again."""
        with self._lock:
            while self._open and self._open[-1] >= offsets[0]:
                self._open.pop()
            self._open.extend(offsets)
            # After a seek back, to records that were dropped on the way, this stays ahead until they are counted.
            self.data = max(self.data, offsets[-1])

    def first_missing(self, offsets: Collection[int], until: int) -> int | None:
        """The first record from `until` on that was handed over, lies before the last of `offsets`, and is not among them.

        Faust drops records in hand when its flow stops, which it does for more than rebalances, and goes on behind them.
        """
        with self._lock:
            while self._open and self._open[0] < until:
                self._open.popleft()
            last = max(offsets, default=-1)
            known = set(offsets)
            return next((offset for offset in self._open if offset < last and offset not in known), None)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Fetches in its own thread and event loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fetched: dict[TP, Fetched] = {}

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Read when the consumer starts, which is after this.
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Any:
        wait = min(timeout or 0, IDLE_FETCH_S)
        records = await super()._fetch_records(consumer, active_partitions, wait, max_records)
        # No await from here on: the positions belong to exactly these records.
        assignment = consumer._subscription.subscription and consumer._subscription.subscription.assignment
        for tp in assignment.tps if assignment and assignment.active else ():
            state = assignment.state_value(tp)
            if state is None or not state.has_valid_position:
                continue
            fetched = self.fetched.setdefault(tp, Fetched())
            if found := records.get(tp):
                fetched.hand_over([record.offset for record in found])
            fetched.position = state.position
        return records

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.fetched.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.fetched.clear()
        await super().on_partitions_assigned(assigned, generation_id)


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Commits what the worker says is done, not what Faust takes as acknowledged: it acknowledges records that it
    skips while it stops or rebalances."""

    def on_init(self) -> None:
        super().on_init()
        self.done: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for tp in revoked:
            self.done.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    def outstanding(self) -> dict[TP, int]:
        """Partitions with records that were fetched and are not done, with the offset of the first of them."""
        found = {}
        for tp in self.assignment():
            if not self._is_changelog_tp(tp) and (read := self._thread.fetched.get(tp)) is not None:
                until = self._until(tp)
                if read.data >= until:
                    found[tp] = until
        return found

    def first_missing(self, tp: TP, offsets: Collection[int]) -> int | None:
        """The first record that was fetched, is not done, lies before the last of `offsets`, and is not among them."""
        read: Fetched | None = self._thread.fetched.get(tp)
        return None if read is None else read.first_missing(offsets, self._until(tp))

    def _until(self, tp: TP) -> int:
        """All records before it are done."""
        return max(self._committed_offset[tp] or 0, self.done.get(tp, 0))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust notes every hole in the offsets until it is acknowledged over. Each transaction leaves one."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        due = {}
        fetched = self._thread.fetched
        for tp in self.assignment():
            if self._is_changelog_tp(tp):
                continue
            committed = self._committed_offset[tp] or 0
            until = max(committed, self.done.get(tp, 0))
            # All records handed over are done: what is left up to the position is no record.
            if (read := fetched.get(tp)) is not None and read.data < until < read.position:
                until = read.position
            if until > committed:
                due[tp] = until
        return bool(due) and await self._commit_offsets(due)

    def lag(self) -> int:
        """Offsets between what is committed and the end of the log, over the partitions in hand."""
        return sum(
            max(0, (self.highwater(tp) or 0) - (self._committed_offset[tp] or 0))
            for tp in self.assignment()
            if not self._is_changelog_tp(tp)
        )


class Transport(driver.Transport):  # type: ignore[misc]
    Consumer = Consumer


def broker(kafka: Kafka) -> list[URL]:
    """`kafka.bootstrap_servers` as Faust writes it."""
    servers = [server.strip() for server in kafka.bootstrap_servers.split(",") if server.strip()]
    return [URL(f"kafka://{server.rpartition('://')[2]}") for server in servers]


def credentials(kafka: Kafka) -> auth.Credentials | None:
    """The security options of librdkafka that aiokafka has as well; other options do not reach it.

    Raises:
        ConfigError: on a protocol or mechanism that Faust cannot do.
    """
    options = {**kafka.options, **kafka.consumer_options}
    protocol = options.get("security.protocol", "plaintext").upper()
    if protocol == "PLAINTEXT":
        return None
    if protocol not in {"SSL", "SASL_PLAINTEXT", "SASL_SSL"}:
        raise ConfigError(f"kafka.options.security.protocol = {protocol}: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    context = _tls(options) if protocol.endswith("SSL") else None
    if protocol == "SSL":
        return auth.SSLCredentials(context=context)
    mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN")).upper()
    if mechanism not in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
        raise ConfigError(
            f"kafka.options.sasl.mechanism = {mechanism}: the trends worker knows PLAIN and SCRAM-SHA-256/512"
        )
    return auth.SASLCredentials(
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        ssl_context=context,
        mechanism=mechanism,
    )


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
    if options.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if certificate := options.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, options.get("ssl.key.location"), options.get("ssl.key.password"))
    return context
