"""Encoded records in, a topic fed in their order at a given speed; one idempotent producer, one thread.

Records of one key stay in order and nothing is doubled, also where the broker restarts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, Message

from upwell.bus import clients
from upwell.settings import Kafka

STEP_S = 0.005
FLUSH_S = 1.0


class PublishError(Exception):
    """A record could not be delivered."""


class Publisher(threading.Thread):
    """Feeds one topic. `sent` grows while it runs; `finished` says that all is in the log."""

    def __init__(
        self, kafka: Kafka, topic: str, records: Sequence[tuple[bytes, bytes]], speed: float | None = None
    ) -> None:
        """`records`: key and value each. `speed`: records a second; None: as fast as it goes."""
        super().__init__(name=f"publish-{topic}", daemon=True)
        self.sent = 0
        self.finished = False
        self.failure: PublishError | None = None
        self._topic, self._records, self._speed = topic, records, speed
        self._end = threading.Event()
        options: dict[str, Any] = {**kafka.producer_options, "delivery.report.only.error": True}
        self._producer = clients.plain_producer(kafka.model_copy(update={"producer_options": options}))

    def stop(self) -> None:
        """Send nothing more; what is not delivered yet is dropped."""
        self._end.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        began = time.monotonic()
        total = len(self._records)
        while self.sent < total and not self._end.is_set() and self.failure is None:
            due = total
            if self._speed is not None:
                due = min(total, int((time.monotonic() - began) * self._speed) + 1)
            while self.sent < due:
                key, value = self._records[self.sent]
                try:
                    self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
                except BufferError:
                    break
                self.sent += 1
            # Reports of failures, and room in the buffer.
            self._producer.poll(STEP_S if self.sent < total else 0)
        while not self._end.is_set() and self._producer.flush(FLUSH_S):
            pass
        if self._end.is_set():
            self._producer.purge()
            self._producer.flush(FLUSH_S)
        del self._producer
        self.finished = self.failure is None and not self._end.is_set()

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        # Purged by `stop`: nobody misses it.
        if error is not None and not self._end.is_set() and self.failure is None:
            self.failure = PublishError(f"a record could not be written to {self._topic}: {error.str()}")
