"""Records in, published in one Kafka transaction, with the offsets that they come of where there are any.

Guarantee: what `commit` was given becomes visible all together, or not at all, and never once another producer has been
opened under the same slot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from upwell.bus import clients
from upwell.bus.errors import Aborted, Fenced, Unavailable
from upwell.settings import Kafka

log = structlog.get_logger("upwell.bus")

PATIENCE_S = 120.0
"""How long a transaction's calls are retried before the batch is given up and read again."""
STUCK_S = 6.0
"""How long one sending of offsets may take; librdkafka does not always keep the timeout that it is given."""
CALL_TIMEOUT_S = 10.0


class Output(NamedTuple):
    """One record to publish. `value` None is a tombstone; `partition` -1 leaves the choice to the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None = None
    partition: int = -1


class _Stuck(Exception):
    """A call into librdkafka does not come back."""


def _bounded(call: Callable[..., None], *args: Any) -> None:
    """Call in a thread of its own, for a bounded time.

    `send_offsets_to_transaction` can ignore its timeout and wait for ever when the group coordinator goes away in between
    (librdkafka issues 5456 and 5511). The thread is then left behind with its producer.

    Raises:
        _Stuck: no answer within `STUCK_S`.
    """
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            call(*args)
        except BaseException as error:
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=work, daemon=True, name="transaction").start()
    try:
        error = outcome.get(timeout=STUCK_S)
    except Empty:
        raise _Stuck from None
    if error is not None:
        raise error


class Transactions:
    """A transactional producer of one slot. Opening it ends whatever the slot's former producer had open. Not
    thread-safe."""

    def __init__(self, kafka: Kafka, worker: str, slot: int) -> None:
        """
        Raises:
            Unavailable: the broker does not answer for `PATIENCE_S`.
        """
        self.kafka, self.worker, self.slot = kafka, worker, slot
        self._producer = self._new_producer()

    def commit(self, outputs: Iterable[Output], offsets: Sequence[TopicPartition] = (), metadata: Any = None) -> None:
        """Publish `outputs`, and `offsets` of the group that `metadata` was captured from.

        Raises:
            Aborted: nothing was published, or it is not known and must be read back.
            Fenced: another producer was opened in this slot, or the offsets are another member's by now.
        """
        producer = self._producer
        try:
            producer.begin_transaction()
            for output in outputs:
                self._produce(producer, output)
            # Flushing first leaves nothing for commit_transaction to wait for: its own wait polls in steps of 100 ms.
            producer.flush()
            if offsets:
                self._retrying(_bounded, producer.send_offsets_to_transaction, list(offsets), metadata)
            self._retrying(producer.commit_transaction)
        except KafkaException as error:
            self._give_up(error)
        except _Stuck as error:
            log.warning(
                "transaction.stuck", error="the broker's answer to the offsets never came", again="new producer"
            )
            # Of the same id: it ends the old one's transaction, which nobody can commit any more.
            self._producer = self._new_producer()
            raise Aborted("the offsets could not be sent") from error

    @staticmethod
    def _produce(producer: Producer, output: Output) -> None:
        while True:
            try:
                producer.produce(output.topic, output.value, output.key, output.partition, headers=output.headers)
            except BufferError:
                producer.poll(0.05)
            else:
                return

    @staticmethod
    def _retrying(call: Any, *args: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                call(*args, CALL_TIMEOUT_S)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                log.warning("transaction.retry", error=str(error))
            else:
                return

    def _give_up(self, error: KafkaException) -> None:
        reason: KafkaError = error.args[0]
        if reason.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}:
            raise Fenced(
                f"slot {self.slot} of {self.worker} was fenced ({reason.str()}): another worker runs in this slot, "
                "or a transaction outlasted kafka.transaction_timeout_ms"
            ) from error
        log.warning("transaction.aborted", error=reason.str())
        if reason.fatal():
            self._producer = self._new_producer()
        else:
            try:
                self._producer.abort_transaction(30.0)
            except KafkaException:
                # A new producer of the same id ends the old one's transaction, whatever became of it.
                self._producer = self._new_producer()
        raise Aborted(reason.str()) from error

    def _new_producer(self) -> Producer:
        producer = clients.transactional_producer(self.kafka, self.worker, self.slot)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                producer.init_transactions(10.0)
            except KafkaException as error:
                if time.monotonic() > deadline or not error.args[0].retriable():
                    raise Unavailable(
                        f"cannot open transactions at {self.kafka.bootstrap_servers}: {error.args[0].str()}"
                    ) from error
                log.warning("transaction.wait", error=error.args[0].str())
            else:
                return producer
