"""A user's last events, packed: the dedupe window, what was seen, the evidence of reasons, and what profiles are
rebuilt from. Stored as its bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.store.history import EVENT

MOST = 65_536
"""Events kept at the very most: no user's burst takes a worker's memory."""


class History:
    """The last events, oldest first: at least `keep` events and all of the last `window_ms` of log time."""

    __slots__ = ("_ring", "_start", "hashes", "size")

    def __init__(self) -> None:
        self._ring: NDArray[np.void] = np.zeros(8, EVENT)
        self._start = 0
        self.size = 0
        self.hashes: set[int] = set()

    def add(
        self,
        event: int,
        item: int,
        time: int,
        logged: int,
        weight: float,
        row: int,
        applied: bool,
        keep: int,
        window_ms: float,
    ) -> None:
        """Append one event; `event` must not be in `hashes`."""
        ring, size = self._ring, self.size
        while size and ((size >= keep and ring[self._start]["logged"] < logged - window_ms) or size >= MOST):
            self.hashes.discard(int(ring[self._start]["event"]))
            self._start = (self._start + 1) % len(ring)
            size -= 1
        if size == len(ring):
            self._ring = ring = np.concatenate([np.roll(ring, -self._start), np.zeros(size, EVENT)])
            self._start = 0
        ring[(self._start + size) % len(ring)] = (event, item, time, logged, weight, row, applied)
        self.size = size + 1
        self.hashes.add(event)

    def events(self) -> NDArray[np.void]:
        """[size] of EVENT, oldest first: a view where the ring has not wrapped, and then to be written through
        `mark_applied` only."""
        end = self._start + self.size
        if end <= len(self._ring):
            return self._ring[self._start : end]
        return np.concatenate([self._ring[self._start :], self._ring[: end - len(self._ring)]])

    def mark_applied(self, item: int, row: int) -> NDArray[np.void]:
        """Mark the waiting events of an item, now in `row`, as applied; returns them, oldest first."""
        events = self.events()
        waiting: NDArray[np.void] = events[(events["item"] == item) & (events["applied"] == 0)]
        found = (self._ring["item"] == item) & (self._ring["applied"] == 0)
        self._ring["applied"][found] = 1
        self._ring["row"][found] = row
        return waiting

    def mark_all(self, applied: NDArray[np.bool_]) -> None:
        """Say of each event, oldest first, whether its item's vector is in the profile; before any is added."""
        self._ring["applied"][: self.size] = applied

    def pack(self) -> bytes:
        events = self.events().copy()
        events["row"] = -1
        return events.tobytes()

    @classmethod
    def unpack(cls, stored: bytes) -> History:
        """Rows are -1 until the caller fills them in through `set_rows`."""
        history = cls()
        events = np.frombuffer(stored, EVENT)
        room = max(8, 1 << len(events).bit_length())
        history._ring = np.zeros(room, EVENT)
        history._ring[: len(events)] = events
        history.size = len(events)
        history.hashes = set(events["event"].tolist())
        return history

    def set_rows(self, rows: NDArray[np.int32]) -> None:
        """Catalogue rows of a history just unpacked, oldest first."""
        self._ring["row"][: self.size] = rows
