"""Takeover of partitions: epoch, stable committed offset, watermark; and what may be applied or published where.

In this order (guarantee 3): raise the epoch, so that the former owner's flushes are refused; read the committed offset
that no pending transaction can move; read the watermark; start at the lower of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from upwell.bus.consumer import Partition, TransactionalConsumer
from upwell.bus.errors import Inconsistent
from upwell.interactions.profiles import Profiles
from upwell.interactions.write_behind import WriteBehind
from upwell.store.profiles import ProfileStore
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.interactions")

COMMITTED_BY_UPWELL = "upwell"
"""Stored with every committed offset; an offset without it was set by hand."""


class Ownership:
    """Per owned partition: where the stored state stood, from where on outputs are new, and how far the state is."""

    def __init__(self, store: ProfileStore, profiles: Profiles, write_behind: WriteBehind) -> None:
        self.store = store
        self.profiles = profiles
        self.write_behind = write_behind
        self.bus: TransactionalConsumer | None = None
        self.applied_to: dict[int, int] = {}
        """Events below are in the stored state already: not applied again."""
        self.live_from: dict[int, int] = {}
        """Outputs of events below are published already: applied in silence."""
        self.committed: dict[int, int] = {}
        """Committed position."""
        self.state: dict[int, int] = {}
        """Next offset that the state in memory does not contain."""
        self.taken = False
        """Partitions have been taken over since this was last looked at."""

    def takeover(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        assert self.bus is not None
        self.forget([p.number for p in partitions])
        bounds = {p: self.bus.log_bounds(p) for p in partitions}
        held = {}
        for p in partitions:
            row, cluster_id, topic_id = self.store.raise_epoch(p.number, bounds[p][0])
            log_of = self.store.log
            if cluster_id != log_of.cluster_id or topic_id != log_of.topic_id:
                what = "another cluster" if cluster_id != log_of.cluster_id else "another topic of the same name"
                raise Inconsistent(
                    f"{p.topic} [{p.number}]: the stored profiles are {what}'s (cluster {cluster_id}, topic id "
                    f"{topic_id}; here {log_of.cluster_id}, {log_of.topic_id}). `upwell rebase` binds them to this log"
                )
            held[p] = row
        committed = self.bus.committed(partitions)
        starts: dict[Partition, int] = {}
        for p in partitions:
            low, high = bounds[p]
            watermark = held[p].next_offset
            offset, note = committed[p]
            if not low <= watermark <= high:
                raise Inconsistent(
                    f"{p.topic} [{p.number}]: the stored profiles stand at offset {watermark}, outside the log "
                    f"({low} to {high}): its records have expired, or the log is an older copy. `upwell rebase` decides"
                )
            if offset is None:
                offset = low
                if watermark > low:
                    log.warning("position.missing", partition=p.number, watermark=watermark, starts=low)
            elif offset != watermark and note != COMMITTED_BY_UPWELL:
                log.warning("position.moved", partition=p.number, committed=offset, watermark=watermark)
                # Ahead is said and obeyed: what lies between is neither applied nor published.
                watermark = max(watermark, offset)
            self.applied_to[p.number] = watermark
            self.live_from[p.number] = self.committed[p.number] = offset
            self.state[p.number] = watermark
            self.write_behind.own(held[p])
            if watermark != held[p].next_offset:
                self.write_behind.submit([], {p.number: watermark})
            starts[p] = min(watermark, offset)
            self.taken = True
            metrics.TAKEOVERS.labels("interactions").inc()
            log.info("partition.taken", partition=p.number, epoch=held[p].epoch, watermark=watermark, committed=offset)
        if any(starts[p] != held[p].next_offset for p in partitions):
            # A position that was moved ahead stays obeyed after a crash.
            self.write_behind.flush_now()
        return starts

    def release(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        if not lost:
            self.write_behind.flush_now()
        self.forget([p.number for p in partitions])

    def forget(self, numbers: Sequence[int]) -> None:
        """Drop all state of these partitions."""
        self.write_behind.disown(numbers)
        self.profiles.drop(numbers)
        for number in numbers:
            self.applied_to.pop(number, None)
            self.live_from.pop(number, None)
            self.committed.pop(number, None)
            self.state.pop(number, None)

    @property
    def live(self) -> bool:
        """Partitions are owned, and every one's state contains what has been published about it."""
        return bool(self.state) and all(self.state[number] >= offset for number, offset in self.live_from.items())

    def advance(self, positions: dict[int, int]) -> dict[int, int]:
        """The state now contains everything below `positions`; returns the positions that a flush may write."""
        for number, position in positions.items():
            self.state[number] = max(self.state[number], position)
        return {number: self.state[number] for number in positions}
