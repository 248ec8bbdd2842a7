"""Counts per key and window. Batches of `statistics` records in, the counts that changed out.

Each count holds the offset of the last record that it contains, so a record that is delivered again changes nothing:
after a crash that stored some counts and not others, the next run adds exactly what is missing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field

import msgspec

from upwell.bus.errors import Inconsistent
from upwell.events.contracts import CategoryCount, ItemCount, Statistics, Trend
from upwell.ranking import trend

STATE_VERSION = 1
ITEM = "item:"
CATEGORY = "category:"


class Count(msgspec.Struct, array_like=True, gc=False):
    """The stored value of one (key, window)."""

    offset: int
    """Of the last `statistics` record contained; -1 before the first."""
    events: int = 0
    weight: float = 0.0
    sequence: int = 0
    """Rises with each stored change."""
    log: int = 0
    """`Mark.log` at the time of the offset."""


class Mark(msgspec.Struct, array_like=True):
    """The stored state of one partition, apart from its counts."""

    topic_id: str
    """The incarnation of `statistics` that was read last."""
    log: int = 0
    """Its number: raised when the topic was created anew, for offsets of another incarnation mean nothing."""
    newest: int = 0
    """Largest window start seen."""
    closed: int = 0
    """Windows that start before this are dropped, and stay so."""
    state_version: int = STATE_VERSION
    """Of the marks and counts of this partition."""


_encode = msgspec.msgpack.Encoder().encode
_count = msgspec.msgpack.Decoder(Count).decode
_mark = msgspec.msgpack.Decoder(Mark).decode


def count_key(window: int, key: str) -> bytes:
    """Storage key of one count: `<window start> <key>`."""
    return f"{window} {key}".encode("utf-8", "surrogatepass")


def mark_key(partition: int) -> bytes:
    """Storage key of a partition's mark; no count's key starts so."""
    return f"mark {partition}".encode()


@dataclass(slots=True)
class Changes:
    """What one batch changed in one partition."""

    stored: dict[bytes, bytes | None] = field(default_factory=dict)
    """Storage key to new value, None to delete; the mark is last."""
    trends: list[Trend] = field(default_factory=list)
    """Every touched count, also one that a redelivered record would not change: its publication may be what the crash
    lost."""
    deltas: int = 0
    late: int = 0
    """Deltas of windows that are closed."""


class Counts:
    """The counts of one partition of `statistics`, over a key-value store that outlives the process."""

    def __init__(
        self,
        store: MutableMapping[bytes, bytes],
        partition: int,
        topic_id: str,
        width_ms: int,
        keep: int,
        grace_s: float,
    ) -> None:
        """
        Args:
            store: Read here, never written: the caller writes `Changes.stored` in its own way.
            partition: Of `statistics`.
            topic_id: Its topic's id.
            width_ms: Width of a window.
            keep: A window is dropped when `keep` newer ones have begun …
            grace_s: … this long ago (wall clock): a replay whose partitions drift apart is counted in full.

        Raises:
            Inconsistent: A newer release has counted here.
        """
        self.partition = partition
        self._store = store
        self._width = width_ms
        self._keep = keep
        self._grace = grace_s
        self._open: dict[int, set[bytes]] = {}
        found = store.get(mark_key(partition))
        self._mark = _mark(found) if found is not None else Mark(topic_id)
        if self._mark.state_version > STATE_VERSION:
            what = f"the stored count of partition {partition} of statistics"
            raise Inconsistent.newer(what, self._mark.state_version, STATE_VERSION)
        if self._mark.topic_id != topic_id:
            self._mark.topic_id, self._mark.log = topic_id, self._mark.log + 1
        self._horizons: deque[tuple[float, int]] = deque()

    def restore(self, keys: Iterable[bytes]) -> None:
        """Learn which counts the store holds for this partition."""
        for key in keys:
            window, _, name = key.partition(b" ")
            if name and window != b"mark":
                self._open.setdefault(int(window), set()).add(key)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def apply(self, records: Iterable[tuple[int, Statistics]], now: float | None = None) -> Changes:
        """Add a batch.

        Args:
            records: (offset, record), offsets rising.
            now: Monotonic seconds; given by tests.
        """
        changes = Changes()
        touched: dict[bytes, tuple[str, int, int, Count]] = {}
        for offset, record in records:
            for name, delta in _deltas(record):
                window = trend.window_of(delta.window, self._width)
                changes.deltas += 1
                if window < self._mark.closed:
                    changes.late += 1
                    continue
                key = count_key(window, name)
                entry = touched.get(key)
                if entry is None:
                    count = self._load(key)
                    # What the store holds decides, not what this batch adds: one record may touch a count twice.
                    entry = touched[key] = (name, window, count.offset, count)
                _, _, contained, count = entry
                if offset <= contained:
                    continue
                count.events += delta.events
                count.weight += delta.weight
                count.offset = offset
        for key, (_, window, contained, count) in touched.items():
            if count.offset > contained:
                count.sequence += 1
                changes.stored[key] = _encode(count)
                self._open.setdefault(window, set()).add(key)
        if touched:
            self._mark.newest = max(self._mark.newest, *(window for _, window, _, _ in touched.values()))
        for name, window, _, count in touched.values():
            changes.trends.append(self._trend(name, window, count, touched))
        self._close(changes, time.monotonic() if now is None else now)
        if changes.stored:
            changes.stored[mark_key(self.partition)] = _encode(self._mark)
        return changes

    def _load(self, key: bytes) -> Count:
        found = self._store.get(key)
        count = _count(found) if found is not None else Count(-1)
        if count.log != self._mark.log:
            count.offset, count.log = -1, self._mark.log
        return count

    def _trend(self, name: str, window: int, count: Count, touched: dict[bytes, tuple[str, int, int, Count]]) -> Trend:
        before = count_key(window - self._width, name)
        previous = touched[before][3] if before in touched else self._load(before)
        return Trend(
            kind=name.partition(":")[0],
            key=name,
            window_start=window,
            window_end=window + self._width,
            sequence=count.sequence,
            events=count.events,
            weight=count.weight,
            score=trend.score(count.weight, previous.weight),
        )

    def _close(self, changes: Changes, now: float) -> None:
        """Drop the windows that were out of date `grace` ago already."""
        horizon = self._mark.newest - self._keep * self._width
        if not self._horizons or self._horizons[-1][1] < horizon:
            self._horizons.append((now, horizon))
        while self._horizons and self._horizons[0][0] <= now - self._grace:
            self._mark.closed = max(self._mark.closed, self._horizons.popleft()[1])
        for window in [window for window in self._open if window < self._mark.closed]:
            changes.stored.update(dict.fromkeys(self._open.pop(window)))


def _deltas(record: Statistics) -> Iterator[tuple[str, ItemCount | CategoryCount]]:
    for item in record.items:
        yield ITEM + item.item_id, item
    for category in record.categories:
        yield CATEGORY + category.category, category
