"""Stored profiles, and the watermark rows that say which part of the log they contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool

from upwell.store import arrays, database
from upwell.store.database import sql

STATE_VERSION = 1


class FlushRefused(Exception):
    """The watermark has moved without us: these partitions have another owner now."""

    def __init__(self, partitions: list[int]) -> None:
        super().__init__(f"partitions {partitions} have another owner")
        self.partitions = partitions


class UserMoved(Exception):
    """Users of this flush are stored for another partition: two workers own the same user."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} users are stored for another partition: all of a user's events must be in one partition. "
            "Producers with different partitioners write to this topic"
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A watermark row as this owner knows it."""

    partition: int
    epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One user's state, as of a committed transaction; shares no memory with the cache."""

    user_id: str
    partition: int
    generation: int
    version: int
    revision: int
    event_time: int
    base: int
    half_life_ms: float
    vector: NDArray[np.float32]
    events: bytes
    slates: bytes
    slate_items: Sequence[str]
    triggered: str | None
    reactions: bytes = b"{}"
    segments: Sequence[str] = ()
    model_version: str = ""
    state_version: int = STATE_VERSION


@dataclass(frozen=True, slots=True)
class Log:
    """Whose positions the watermarks are."""

    group_id: str
    cluster_id: str
    topic_id: str
    topic: str


class ProfileStore:
    """Profiles of one group and topic. Thread-safe: every call takes its own connection."""

    def __init__(self, connections: ConnectionPool[psycopg.Connection[object]], log: Log) -> None:
        self._connections = connections
        self.log = log

    def raise_epoch(self, partition: int, log_start: int) -> tuple[Held, str, str]:
        """Take a partition over. A partition without a row stands at `log_start`.

        Returns:
            The row, and the cluster id and topic id that it was made for.
        """
        parameters = {
            "group_id": self.log.group_id, "cluster_id": self.log.cluster_id, "topic_id": self.log.topic_id,
            "topic": self.log.topic, "partition": partition, "log_start": log_start,
        }  # fmt: skip
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                row = cursor.execute(sql("raise_epoch"), parameters).fetchone()
        assert row is not None
        epoch, next_offset, cluster_id, topic_id = row
        return Held(partition, epoch, next_offset), cluster_id, topic_id

    def read(self, user_ids: Sequence[str]) -> list[ProfileRow]:
        """The stored rows of these users, those that there are."""
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                rows = cursor.execute(sql("read_profiles"), {"user_ids": list(user_ids)}).fetchall()
        return [
            ProfileRow(
                user_id=r[0], partition=r[1], state_version=r[2], model_version=r[3], generation=r[4], version=r[5],
                revision=r[6], event_time=r[7], base=r[8], half_life_ms=r[9], vector=arrays.vector(r[10]),
                events=bytes(r[11]), slates=bytes(r[12]), slate_items=(), triggered=r[13],
                reactions=bytes(r[14]), segments=r[15],
            )
            for r in rows
        ]  # fmt: skip

    def deleted_vectors(self, model_version: str) -> list[tuple[str, NDArray[np.float32]]]:
        """(item id, [d] float32 vector) of deleted items that have one of this model version."""
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                rows = cursor.execute(sql("deleted_vectors"), {"model_version": model_version}).fetchall()
        return [(item_id, arrays.vector(sent)) for item_id, sent in rows]

    def stale_users(self, partitions: Sequence[int], model_version: str, at_most: int) -> list[tuple[str, int]]:
        """(user, partition) of profiles that another model made than this one, latest first."""
        parameters = {"partitions": list(partitions), "model_version": model_version, "at_most": at_most}
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                return cursor.execute(sql("stale_profiles"), parameters).fetchall()
        raise AssertionError("unreachable")

    def record_switch(self, model_version: str, positions: dict[int, int]) -> None:
        """Note at which offset each partition's profiles went over to a model."""
        parameters = {
            "group_id": self.log.group_id, "topic": self.log.topic, "model_version": model_version,
            "partitions": list(positions), "next_offsets": list(positions.values()),
        }  # fmt: skip
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                cursor.execute(sql("switch_record"), parameters)

    def users_shown(self, items: Sequence[str], partitions: Sequence[int]) -> list[tuple[str, int]]:
        """(user, partition) of users whose newest stored slate holds one of the items."""
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                return cursor.execute(
                    sql("users_shown"), {"partitions": list(partitions), "items": list(items)}
                ).fetchall()
        raise AssertionError("unreachable")

    def flush(
        self, rows: Sequence[ProfileRow], held: Sequence[Held], positions: dict[int, int], model_version: str
    ) -> list[Held]:
        """Write profiles together with the watermarks that they belong to, in one database transaction.

        Args:
            rows: latest committed state of changed users, none with an event at or beyond `positions`.
            held: the watermark rows of all partitions concerned, as last known.
            positions: partition to its next offset.

        Returns:
            The new watermark rows.

        Raises:
            FlushRefused, UserMoved: nothing was written.
            psycopg.OperationalError: it is not known whether it was written; the next takeover finds out.
        """
        moved = [replace(h, next_offset=positions[h.partition]) for h in held]
        with database.transaction(self._connections) as cursor:
            advanced = cursor.execute(
                sql("advance_watermarks"),
                {
                    "group_id": self.log.group_id, "topic": self.log.topic,
                    "partitions": [h.partition for h in held], "epochs": [h.epoch for h in held],
                    "stored": [h.next_offset for h in held], "next_offsets": [h.next_offset for h in moved],
                },
            ).fetchall()  # fmt: skip
            if len(advanced) < len(held):
                raise FlushRefused(sorted({h.partition for h in held} - {p for (p,) in advanced}))
            if rows:
                written = cursor.execute(sql("upsert_profiles"), _columns(rows, model_version)).rowcount
                if written < len(rows):
                    raise UserMoved(len(rows) - written)
        return moved


def _columns(rows: Sequence[ProfileRow], model_version: str) -> dict[str, object]:
    # Rows from before the first item was known have one zero for a vector: as wide as the others it is zero still.
    vectors = np.zeros((len(rows), max(len(row.vector) for row in rows)), np.float32)
    for number, row in enumerate(rows):
        vectors[number, : len(row.vector)] = row.vector
    return {
        "state_version": STATE_VERSION,
        "model_version": model_version,
        "user_ids": [r.user_id for r in rows],
        "partitions": [r.partition for r in rows],
        "generations": [r.generation for r in rows],
        "versions": [r.version for r in rows],
        "revisions": [r.revision for r in rows],
        "event_times": [r.event_time for r in rows],
        "bases": [r.base for r in rows],
        "half_lives": [r.half_life_ms for r in rows],
        "vectors": arrays.VectorArray(vectors),
        "events": [r.events for r in rows],
        "slates": [r.slates for r in rows],
        "slate_items": ["\x1f".join(r.slate_items) for r in rows],
        "triggered": [r.triggered for r in rows],
        "reactions": [r.reactions for r in rows],
        "segments": ["\x1f".join(r.segments) for r in rows],
    }
