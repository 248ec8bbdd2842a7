"""Dead letters in; each written back to its topic or given up, with a note of it, in one transaction.

Guarantees: a letter is written back at most once, and once where `redrive` was told of it and returned, whatever is killed
and however many do it at once. All that settle letters of one topic share a transactional id, so that the newest one ends
the older one's transaction and refuses its further ones; what has been settled is read after that, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from confluent_kafka.admin import AdminClient

from upwell.bus import dead_letters
from upwell.bus.errors import Fenced, Inconsistent
from upwell.bus.headers import headers
from upwell.bus.letters import Box, Letter, Settled, State
from upwell.bus.transactions import Output, Transactions
from upwell.events.codec import encode
from upwell.events.contracts import Settlement

BATCH = 500
BATCH_BYTES = 8 * 1024 * 1024
"""Letters of one transaction, and what they may hold together unless one alone holds more."""


class Settler:
    """The one that settles letters of a topic, until another one is made."""

    def __init__(self, box: Box, admin: AdminClient, partitions: int) -> None:
        """`partitions`: of the topic that the letters come from.

        Raises:
            Unavailable: a topic is not there, or the broker does not answer.
        """
        self._box = box
        self._partitions = partitions
        self._transactions = Transactions(box.kafka, f"dlq-{box.topic}", 0)
        self.settled = Settled(box.kafka, admin, box.dead)

    def redrive(self, letters: Sequence[Letter]) -> None:
        """Write records back to where they came from: same partition, key and headers, those of the failure included.

        Raises:
            Inconsistent: the topic has no such partition any more; nothing was written.
            Fenced: somebody else settles letters of this topic now; nothing was written.
            Aborted: nothing was written, or it is not known: another Settler reads it back.
        """
        back = []
        for letter in letters:
            if letter.partition >= self._partitions:
                raise Inconsistent(
                    f"{self._box.dead} {letter.place.partition}:{letter.place.offset} comes from partition "
                    f"{letter.partition} of {self._box.topic}, which has {self._partitions}"
                )
            message = letter.message
            own = dead_letters.redriven(headers(message))
            back.append(Output(self._box.topic, message.key(), message.value(), own, letter.partition))
        self._commit(back, letters, State.REDRIVEN)

    def drop(self, letters: Sequence[Letter]) -> None:
        """Give letters up: they stay where they are until they expire, and are offered no more.

        Raises:
            Fenced, Aborted: as `redrive`.
        """
        self._commit([], letters, State.DROPPED)

    def _commit(self, outputs: list[Output], letters: Sequence[Letter], outcome: State) -> None:
        settled, now = self.settled, time.time_ns() // 1_000_000
        for letter in letters:
            note = Settlement(settled.topic, settled.topic_id, *letter.place, outcome.value, now)
            outputs.append(Output(settled.log, settled.key(letter.place), encode(note)))
        outputs += [Output(settled.log, key, None) for key in sorted(settled.stale)]
        try:
            self._transactions.commit(outputs)
        except Fenced as error:
            raise Fenced(
                f"{self._box.dead}: somebody else redrives or drops its letters now, and goes on with what is left"
            ) from error
        settled.stale.clear()
        settled.outcomes.update(dict.fromkeys((letter.place for letter in letters), outcome))


def batches(letters: Iterable[Letter], most: int) -> Iterable[list[Letter]]:
    """Letters in groups of at most `most`, and of bounded size."""
    batch: list[Letter] = []
    size = 0
    for letter in letters:
        held = len(letter.message.value() or b"")
        if batch and (len(batch) >= most or size + held > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += held
    if batch:
        yield batch
