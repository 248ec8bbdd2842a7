"""Committed states of changed users in, rows in Postgres out, behind the Kafka transaction and by a bounded lag.

One flush is one database transaction with the watermark of every partition concerned. A refused flush is handed to the
worker, which takes the partitions over anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence

import psycopg
import structlog

from upwell.bus.errors import Inconsistent
from upwell.store.profiles import FlushRefused, Held, ProfileRow, ProfileStore, UserMoved
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.interactions")

PATIENCE_S = 120.0
"""How long a flush is retried while Postgres is away; reading has stopped long before."""


class WriteBehind:
    """`submit` collects, a thread flushes every `interval_s` or from `most_rows` on. 0 s: `submit` flushes itself."""

    def __init__(self, store: ProfileStore, interval_s: float, most_rows: int) -> None:
        self._store = store
        self._interval_s = interval_s
        self._most_rows = most_rows
        self._lock = threading.Condition()
        self._rows: dict[str, ProfileRow] = {}
        self._positions: dict[int, int] = {}
        self._since: float | None = None
        self._held: dict[int, Held] = {}
        self._busy = False
        self._closed = False
        self.model_version = ""
        self._number = 0
        self.landed = -1
        """Number of the last flush that is in Postgres."""
        self._refused: set[int] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def own(self, held: Held) -> None:
        with self._lock:
            self._held[held.partition] = held
            self._refused.discard(held.partition)

    def disown(self, partitions: Iterable[int]) -> None:
        """Throw away what is not flushed of these partitions, after a flush in progress has ended."""
        gone = set(partitions)
        with self._lock:
            self._lock.wait_for(lambda: not self._busy)
            self._rows = {user: row for user, row in self._rows.items() if row.partition not in gone}
            for partition in gone:
                self._positions.pop(partition, None)
                self._held.pop(partition, None)
                self._refused.discard(partition)

    def submit(self, rows: Sequence[ProfileRow], positions: dict[int, int]) -> int:
        """Take over committed states and the positions that they stand for.

        Args:
            rows: must not share memory with the cache; their partitions are all in `positions`.
            positions: partition to next offset; no row holds an event at or beyond it.

        Returns:
            Number of the flush that will hold them: they are in Postgres once `landed` has reached it.
        """
        with self._lock:
            number = self._number
            for row in rows:
                self._rows[row.user_id] = row
            self._positions.update(positions)
            if self._since is None:
                self._since = time.monotonic()
                self._lock.notify_all()
            elif len(self._rows) >= self._most_rows:
                self._lock.notify_all()
            metrics.PROFILES_DIRTY.set(len(self._rows))
        if self._interval_s == 0:
            self.flush_now()
        return number

    @property
    def full(self) -> bool:
        """Postgres is behind by more than a flush: stop reading until it has caught up."""
        return len(self._rows) >= 2 * self._most_rows

    def flush_now(self) -> None:
        """Return when everything submitted so far is in Postgres, or has been refused.

        Raises:
            psycopg.OperationalError: Postgres does not answer for longer than its retries.
        """
        with self._lock:
            self._since = 0.0 if self._positions or self._rows else None
            self._lock.notify_all()
            self._lock.wait_for(lambda: self._failure or (self._since is None and not self._busy))
        self.check()

    def check(self) -> None:
        """Raise what ended the flusher, if anything did."""
        if self._failure is not None:
            raise self._failure

    def refused(self) -> list[int]:
        """Partitions whose flush was refused: take them over anew."""
        return sorted(self._refused)

    def close(self, *, flush: bool) -> None:
        if flush and self._failure is None:
            self.flush_now()
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._thread.join(timeout=30)

    def _due(self) -> bool:
        if self._closed:
            return True
        if self._since is None:
            return False
        return len(self._rows) >= self._most_rows or time.monotonic() - self._since >= self._interval_s

    def _run(self) -> None:
        try:
            while True:
                with self._lock:
                    while not self._due():
                        left = None if self._since is None else self._since + self._interval_s - time.monotonic()
                        self._lock.wait(None if left is None else max(0.0, left))
                    if self._closed:
                        return
                    rows = list(self._rows.values())
                    positions, number = self._positions, self._number
                    self._rows, self._positions, self._since = {}, {}, None
                    self._number += 1
                    self._busy = True
                whole = self._flush(rows, positions)
                with self._lock:
                    if whole:
                        self.landed = number
                    self._busy = False
                    self._lock.notify_all()
        except BaseException as error:
            log.exception("flush.failed")
            with self._lock:
                self._failure = error
                self._busy = False
                self._lock.notify_all()

    def _flush(self, rows: list[ProfileRow], positions: dict[int, int]) -> bool:
        """Write, leaving out partitions that refuse, retrying while the server is away; True where nothing was left
        out.

        Raises:
            psycopg.OperationalError: the server was away for longer than `PATIENCE_S`.
            Inconsistent: a user is stored for another partition.
        """
        delay = 0.05
        deadline = time.monotonic() + PATIENCE_S
        while not self._closed:
            with self._lock:
                held = [self._held[p] for p in positions if p in self._held and p not in self._refused]
            owned = {h.partition for h in held}
            kept = [row for row in rows if row.partition in owned]
            if not held:
                return not rows
            started = time.perf_counter()
            try:
                moved = self._store.flush(kept, held, positions, self.model_version)
            except FlushRefused as refusal:
                log.warning("flush.refused", partitions=refusal.partitions)
                metrics.FLUSH_REFUSED.inc(len(refusal.partitions))
                with self._lock:
                    self._refused.update(refusal.partitions)
            except UserMoved as error:
                raise Inconsistent(str(error)) from error
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("postgres.retry", error=str(error).strip())
                time.sleep(delay)
                delay = min(2.0, delay * 2)
            else:
                metrics.FLUSH_SECONDS.observe(time.perf_counter() - started)
                with self._lock:
                    for row in moved:
                        if row.partition in self._held:
                            self._held[row.partition] = row
                return len(kept) == len(rows)
        return False
