"""Batches that failed for a reason nobody knows in; the one record that is to blame out, for the dead letters.

A failed batch is read again in halves until a record fails alone, `ATTEMPTS` times. Only then is it condemned; the others
go on. A release that fails at everything condemns `MOST_IN_A_ROW` records and then stops: it does not drain a topic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog
from confluent_kafka import KafkaException, Message

from upwell.bus.consumer import Partition
from upwell.bus.errors import BusError

log = structlog.get_logger("upwell.bus")

ATTEMPTS: Final = 3
MOST_IN_A_ROW: Final = 10
NO_RECORDS_FAULT: Final = (BusError, KafkaException, OSError, MemoryError)
"""What the infrastructure raises, whatever the records are."""


class Suspects:
    """What is known of a worker's failing batches. Positions, not counts: a takeover may read further back."""

    def __init__(self, infrastructure: tuple[type[Exception], ...] = ()) -> None:
        """`infrastructure`: exceptions of this worker that no record is blamed for, besides `NO_RECORDS_FAULT`."""
        self._infrastructure = (*NO_RECORDS_FAULT, *infrastructure)
        self._limit: int | None = None
        self._until: dict[Partition, int] = {}
        self._alone: tuple[Partition, int] | None = None
        self._attempts = 0
        self._condemned: dict[tuple[Partition, int], str] = {}
        self._in_a_row = 0

    def limit(self, most: int, assigned: Collection[Partition]) -> int:
        """How many records the next batch may have."""
        if self._limit is not None and not any(partition in assigned for partition in self._until):
            self._clear()
        return most if self._limit is None else min(most, self._limit)

    def reason(self, message: Message) -> str | None:
        """Why this record is to be dead-lettered; None where it is not condemned."""
        return self._condemned.get(_place(message)) if self._condemned else None

    def failed(self, records: Sequence[Message], positions: Mapping[Partition, int], error: Exception) -> None:
        """A batch failed; nothing of it was published. The caller takes its partitions over anew.

        Raises:
            The error itself, where no record is to blame, or too many are.
        """
        if isinstance(error, self._infrastructure):
            raise error
        log.warning(
            "batch.failed", records=len(records), error=words(error), again="in halves" if len(records) > 1 else "alone"
        )
        self._until = dict(positions)
        self._limit = max(1, len(records) // 2)
        if len(records) > 1:
            return
        place = _place(records[0])
        self._attempts = self._attempts + 1 if self._alone == place else 1
        self._alone = place
        if self._attempts < ATTEMPTS:
            return
        self._in_a_row += 1
        if self._in_a_row > MOST_IN_A_ROW or place in self._condemned:
            log.error("records.failing", in_a_row=self._in_a_row, partition=place[0].number, offset=place[1])
            raise error
        log.error("record.condemned", topic=place[0].topic, partition=place[0].number, offset=place[1], exc_info=error)
        self._condemned[place] = f"failed {ATTEMPTS} times: {words(error)}"
        self._clear()

    def passed(self, records: Sequence[Message], positions: Mapping[Partition, int]) -> None:
        """A batch was processed and committed."""
        if self._in_a_row and any(_place(message) not in self._condemned for message in records):
            self._in_a_row = 0
        if self._limit is not None:
            self._until = {p: offset for p, offset in self._until.items() if positions.get(p, 0) < offset}
            if not self._until:
                self._clear()
        for place in [(p, o) for p, o in self._condemned if positions.get(p, 0) > o]:
            del self._condemned[place]

    def _clear(self) -> None:
        self._limit, self._until, self._alone, self._attempts = None, {}, None, 0


def _place(message: Message) -> tuple[Partition, int]:
    return Partition(message.topic(), message.partition()), message.offset()


def words(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {str(error).strip()}"
