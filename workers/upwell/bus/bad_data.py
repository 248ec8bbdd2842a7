"""Which records of each batch were refused in; a stop out, before a bad deployment drains a topic into its dead letters.

The batch that crosses a limit is not committed. A worker that is started again counts anew: each start puts at most
`dead_letters.max_in_a_row` records of a topic that is all bad there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from confluent_kafka import Message

from upwell.bus.errors import TooManyRefused
from upwell.settings import DeadLetters


class BadData:
    """Counts of one worker, over all its partitions in the order in which it reads them."""

    def __init__(self, worker: str, settings: DeadLetters) -> None:
        self._worker = worker
        self._settings = settings
        self._run = 0
        """Refused records in a row, up to the last one."""
        self._seen = self._bad = 0
        """Records of the window, and those of them that were refused."""
        self._window: deque[tuple[int, int]] = deque()
        """The same of each of its batches."""
        self._checked = (0, 0, 0)
        """Records, refused ones and the run at the end of the batch in hand."""

    def check(self, records: int, refused: Sequence[int], why: str) -> None:
        """Look at a batch before it is committed.

        Args:
            records: how many it has.
            refused: places of those that are to be dead letters, ascending.
            why: one of them, in words.

        Raises:
            TooManyRefused: they are too many.
        """
        settings = self._settings
        run, following = self._run, 0
        for place in refused:
            run = run + 1 if place == following else 1
            following = place + 1
            if 0 < settings.max_in_a_row < run:
                raise self._stop(f"more than {settings.max_in_a_row:,} records in a row are", "max_in_a_row", why)
        self._checked = (records, len(refused), run if following == records else 0)
        seen, bad = self._seen + records, self._bad + len(refused)
        if seen >= settings.over_records and bad > settings.max_share * seen:
            raise self._stop(f"{bad:,} of the last {seen:,} records are", "max_share", why)

    def passed(self) -> None:
        """What was checked last has been committed."""
        records, bad, self._run = self._checked
        self._window.append((records, bad))
        self._seen += records
        self._bad += bad
        while self._seen - self._window[0][0] >= self._settings.over_records:
            records, bad = self._window.popleft()
            self._seen -= records
            self._bad -= bad

    def forget(self) -> None:
        """Count anew: what was seen will be read again."""
        self._run = self._seen = self._bad = 0
        self._window.clear()

    def _stop(self, what: str, setting: str, why: str) -> TooManyRefused:
        return TooManyRefused(
            f"{what} refused, which no slip of a producer explains; the batch was not committed. The last one: {why}. "
            f"Either whoever writes them is wrong, or this release of the {self._worker} worker or its settings are. "
            f"dead_letters.{setting} says how many are taken; a start counts anew"
        )


def at(message: Message, reason: str) -> str:
    """A refused record in words."""
    return f"{message.topic()} [{message.partition()}] offset {message.offset()}: {reason}"
