"""Sends the stream at its rate, as any application would: idempotent, acknowledged by all replicas in sync."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, Message
from confluent_kafka import Producer as Client

from faults.plan import Sent

Where = tuple[str, int]
INTERACTIONS = "interactions"


class Producer:
    """`run` sends, in the caller's thread; `delivered` may be asked from any."""

    def __init__(self, servers: str, prefix: str) -> None:
        self._prefix = prefix
        self._next: dict[Where, int] = {}
        self._refused: list[KafkaError] = []
        self.ends: dict[Where, int] = {}
        """As `delivered`, once all has been sent."""
        self.events = self.acknowledged = 0
        """Interactions sent; records of any topic acknowledged."""
        self._client = Client(
            {
                "bootstrap.servers": servers, "enable.idempotence": True, "acks": "all", "linger.ms": 5, "log_level": 0,
                "reconnect.backoff.max.ms": 1000,
                # A broker that is away costs time, never a record.
                "message.timeout.ms": 0,
            }
        )  # fmt: skip

    def run(self, records: Iterable[Sent], rate: float, stop: threading.Event) -> None:
        """Send until there are no more, or until `stop`.

        Args:
            rate: interactions a second; the other topics' records go beside them. 0: as fast as it goes.
        """
        began, first = time.monotonic(), self.events
        for record in records:
            if record.topic == INTERACTIONS:
                self.events += 1
                due = began + (self.events - first) / rate if rate else began
                while (ahead := due - time.monotonic()) > 0 and not stop.is_set():
                    self._client.poll(min(ahead, 0.05))
            if stop.is_set():
                return
            self._send(record)

    def flush(self, timeout_s: float = 120.0) -> None:
        """Wait for all acknowledgements.

        Raises:
            RuntimeError: one did not come, or a record was refused.
        """
        left = self._client.flush(timeout_s)
        if left or self._refused:
            raise RuntimeError(f"{left} records are not acknowledged; refused: {self._refused[:3]}")

    def finish(self) -> None:
        """As `flush`; nothing is sent after it."""
        self.flush()
        self.ends = self.delivered()

    def delivered(self) -> dict[Where, int]:
        """By canonical topic and partition: the offset after the last record acknowledged."""
        return dict(self._next)

    def _send(self, record: Sent) -> None:
        while True:
            try:
                self._client.produce(
                    f"{self._prefix}{record.topic}", record.value, record.key, record.partition,
                    on_delivery=self._delivered,
                )  # fmt: skip
                break
            except BufferError:
                self._client.poll(0.1)
        self._client.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(error)
            return
        self.acknowledged += 1
        where = (message.topic().removeprefix(self._prefix), message.partition())
        self._next[where] = max(self._next.get(where, 0), message.offset() + 1)
