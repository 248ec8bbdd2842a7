"""Batches in from a consumer group, outputs and offsets out in one Kafka transaction: the only commit point there is.

Guarantees: what `commit` was given becomes visible together with the batch's offsets, or not at all. After any failure
the partitions start again where their owner says, and `Aborted` tells the worker to drop what it changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from upwell.bus import clients
from upwell.bus.errors import Aborted, Fenced, Inconsistent, Unavailable
from upwell.bus.transactions import PATIENCE_S, Output, Transactions
from upwell.settings import Kafka

log = structlog.get_logger("upwell.bus")
Answer = TypeVar("Answer")

ASK_AGAIN_S = 0.2


class Partition(NamedTuple):
    topic: str
    number: int


@dataclass(slots=True)
class Batch:
    """Records in consumption order, the positions after them, and the group metadata captured with them."""

    records: list[Message]
    positions: dict[Partition, int]
    group_metadata: Any


class Owner(Protocol):
    """What a worker does when partitions come and go."""

    def takeover(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Prepare the partitions' state; say at which offset each starts."""

    def release(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """Let go of the partitions: `lost` means that somebody else may own them already, so write nothing."""


@dataclass
class TransactionalConsumer:
    """A group member and its transactional producer. Not thread-safe: one thread polls and commits."""

    kafka: Kafka
    worker: str
    slot: int
    topics: Sequence[str]
    owner: Owner | None = None
    """None: partitions start at their stable committed offset and there is no state to prepare."""
    assigned: set[Partition] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._consumer = clients.group_consumer(self.kafka, self.worker, self.slot)
        self._transactions = Transactions(self.kafka, self.worker, self.slot)
        self._assignments = 0
        self._consumer.subscribe(
            list(self.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, max_records: int, timeout_s: float, gather_s: float = 0.0) -> Batch | None:
        """The records that are there, at most `max_records`; waits up to `timeout_s` for the first, and then up to
        `gather_s` for more.

        Raises:
            Inconsistent: a position lies outside the log.
            Fenced: another worker holds this slot.
        """
        consumer = self._consumer
        messages = consumer.consume(max_records, 0) or consumer.consume(1, timeout_s)
        if len(messages) == 1 and max_records > 1:
            assignments = self._assignments
            more = consumer.consume(max_records - 1, gather_s)
            # After a rebalance in between, the first will be read again: its partition starts at the committed offset.
            messages = messages + more if assignments == self._assignments else more
        if not messages:
            return None
        metadata = consumer.consumer_group_metadata()
        records: list[Message] = []
        positions: dict[Partition, int] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                self._raise_if_final(error, message)
                continue
            partition = Partition(message.topic(), message.partition())
            if partition not in self.assigned:
                continue  # revoked between the broker's answer and this call
            records.append(message)
            positions[partition] = message.offset() + 1
        return Batch(records, positions, metadata) if records else None

    def commit(self, batch: Batch, outputs: Iterable[Output], metadata: dict[Partition, str] | None = None) -> None:
        """Publish `outputs` and the batch's positions in one transaction.

        Args:
            metadata: text stored with a partition's committed offset.

        Raises:
            Aborted: nothing was published (or it is not known and will be read back): the partitions start again.
            Fenced: another worker holds this slot or these partitions.
        """
        offsets = [
            TopicPartition(p.topic, p.number, offset, (metadata or {}).get(p, ""))
            for p, offset in batch.positions.items()
        ]
        self._transactions.commit(outputs, offsets, batch.group_metadata)

    def publish(self, outputs: Iterable[Output], positions: dict[Partition, int], note: str = "") -> None:
        """Publish what no input record caused.

        Args:
            positions: committed positions of the partitions that `outputs` depend on. They are committed again where
                they are, so that the transaction is refused once a partition has another owner.
            note: text stored with the committed offsets.

        Raises:
            Aborted, Fenced: as `commit`.
        """
        metadata = self._consumer.consumer_group_metadata()
        self.commit(Batch([], positions, metadata), outputs, dict.fromkeys(positions, note))

    def restart(self, partitions: Iterable[Partition] | None = None) -> None:
        """Take partitions over anew, after an abort or a refused flush: state and position are read back."""
        chosen = [p for p in (partitions if partitions is not None else sorted(self.assigned)) if p in self.assigned]
        if not chosen:
            return
        for partition, offset in self._starts(chosen).items():
            self._consumer.seek(TopicPartition(partition.topic, partition.number, offset))

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int | None, str]]:
        """Stable committed offsets (no pending transaction can move them) and the text stored with them."""
        asked = [TopicPartition(p.topic, p.number) for p in partitions]

        def ask() -> list[TopicPartition]:
            answer: list[TopicPartition] = self._consumer.committed(asked, timeout=15.0)
            for tp in answer:
                if tp.error is not None:  # not the same as a partition without an offset
                    raise KafkaException(tp.error)
            return answer

        return {
            Partition(tp.topic, tp.partition): (tp.offset if tp.offset >= 0 else None, tp.metadata or "")
            for tp in self._insist(ask, "committed offsets")
        }

    def log_bounds(self, partition: Partition) -> tuple[int, int]:
        """First offset kept and next offset to be written."""
        asked = TopicPartition(partition.topic, partition.number)
        low, high = self._insist(
            lambda: self._consumer.get_watermark_offsets(asked, timeout=15.0), f"the bounds of {partition}"
        )
        return low, high

    @staticmethod
    def _insist(ask: Callable[[], Answer], what: str) -> Answer:
        """Ask until there is an answer: brokers go, and leaders change, in the middle of a takeover.

        Raises:
            Unavailable: there was none for `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise Unavailable(f"cannot read {what}: {error.args[0].str()}") from error
                log.warning("offsets.wait", asked=what, error=error.args[0].str())
            time.sleep(ASK_AGAIN_S)

    def lag(self) -> int:
        """Records between this consumer's positions and the ends that the broker last told it."""
        total = 0
        for tp in self._consumer.position([TopicPartition(p.topic, p.number) for p in self.assigned]):
            if tp.offset >= 0:
                _, high = self._consumer.get_watermark_offsets(tp, cached=True)
                total += max(0, high - tp.offset)
        return total

    def pause(self, partitions: Iterable[Partition] | None = None) -> None:
        """Stop reading partitions (default: all that are assigned) until `resume`, or until they are assigned anew."""
        self._consumer.pause([TopicPartition(p.topic, p.number) for p in self._mine(partitions)])

    def resume(self, partitions: Iterable[Partition] | None = None) -> None:
        self._consumer.resume([TopicPartition(p.topic, p.number) for p in self._mine(partitions)])

    def _mine(self, partitions: Iterable[Partition] | None) -> list[Partition]:
        return [p for p in (self.assigned if partitions is None else partitions) if p in self.assigned]

    def keep_alive(self, seconds: float, batch: Batch) -> None:
        """Stay in the group for `seconds` with a batch in hand and read nothing.

        Raises:
            Aborted: a partition of the batch went elsewhere: drop the batch, nothing of it was published.
        """
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.pause()
                message = self._consumer.poll(min(left, 0.2))
                if message is not None and message.error() is None:  # of a partition assigned just now
                    self._consumer.seek(TopicPartition(message.topic(), message.partition(), message.offset()))
                elif message is not None:
                    self._raise_if_final(message.error(), message)
                if not batch.positions.keys() <= self.assigned:
                    raise Aborted("a partition of the batch has another owner now")
        finally:
            self.resume()

    def close(self) -> None:
        """Leave: partitions are released. A static member keeps its place until the session timeout."""
        self._consumer.close()

    def _starts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        if self.owner is not None:
            return self.owner.takeover(partitions)
        return {
            p: OFFSET_BEGINNING if offset is None else offset for p, (offset, _) in self.committed(partitions).items()
        }

    def _on_assign(self, consumer: Consumer, assignment: list[TopicPartition]) -> None:
        partitions = [Partition(tp.topic, tp.partition) for tp in assignment]
        log.info(
            "partitions.assigned",
            partitions=[p.number for p in partitions],
            topics=sorted({p.topic for p in partitions}),
        )
        self._assignments += 1
        starts = self._starts(partitions) if partitions else {}
        self.assigned.update(partitions)
        chosen = [TopicPartition(p.topic, p.number, starts[p]) for p in partitions]
        consumer.assign(chosen)
        # librdkafka remembers a pause for as long as it lives, across assignments.
        consumer.resume(chosen)

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        self._release(revoked, lost=False)
        consumer.unassign()

    def _on_lost(self, consumer: Consumer, gone: list[TopicPartition]) -> None:
        self._release(gone, lost=True)
        consumer.unassign()

    def _release(self, gone: list[TopicPartition], *, lost: bool) -> None:
        partitions = [Partition(tp.topic, tp.partition) for tp in gone]
        log.info("partitions.released", partitions=[p.number for p in partitions], lost=lost)
        self._assignments += 1
        if self.owner is not None:
            self.owner.release(partitions, lost=lost)
        self.assigned.difference_update(partitions)

    def _raise_if_final(self, error: KafkaError, message: Message) -> None:
        code = error.code()
        if code == KafkaError._AUTO_OFFSET_RESET:
            raise Inconsistent(
                f"{message.topic()} [{message.partition()}]: the position lies outside the log ({error.str()}). "
                "Its records have expired, or the topic was re-created. `upwell rebase` sets a new position"
            )
        if error.fatal() or code in {KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL}:
            raise Fenced(f"slot {self.slot} of {self.worker}: {error.str()}")
        log.warning("consume.error", error=error.str())
