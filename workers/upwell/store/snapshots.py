"""Snapshots of shared learning, with their offset; one elected worker writes them."""

from __future__ import annotations

import zlib
from typing import cast

import psycopg
import structlog

from upwell.settings import Postgres
from upwell.store import database
from upwell.store.database import sql

log = structlog.get_logger("upwell.store")
STATE_VERSION = 2
"""1 held decayed popularity and arms."""


class NewerSnapshot(Exception):
    """A newer release has written the snapshot of shared learning."""


class SnapshotStore:
    """One connection, which holds the writer's lock for as long as it lives."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._connection: psycopg.Connection[object] | None = None
        self._elected: set[int] = set()
        # Advisory locks are the database's; a writer is elected per schema. Two ints of 32 bits, signed: (this, shard).
        self._lock_space = zlib.crc32(f"upwell snapshots {postgres.db_schema}".encode()) - 2**31

    def read(self, shard: int, topic_id: str) -> tuple[int, bytes] | None:
        """(next offset, state), None where there is no snapshot of this log, or only one of an older release.

        Raises:
            NewerSnapshot
        """
        for attempt in database.retrying():
            with attempt:
                row = self._connect().execute(
                    sql("read_snapshot"), {"shard": shard, "topic_id": topic_id}
                ).fetchone()  # fmt: skip
                if row is None:
                    return None
                offset, state, version = cast("tuple[int, bytes, int]", row)
                if version > STATE_VERSION:
                    raise NewerSnapshot(
                        f"the snapshot of shard {shard} has state version {version}, this release knows {STATE_VERSION}: "
                        "upgrade this worker as well, or delete the row of statistics_snapshots, and all is learned again"
                    )
                if version < STATE_VERSION:
                    log.warning(
                        "snapshot.older", shard=shard, state_version=version, reason="learned again from the log"
                    )
                    return None
                return offset, bytes(state)
        raise AssertionError("unreachable")

    def elected(self, shard: int) -> bool:
        """Whether this worker is, or has just become, the elected writer; False where that cannot be asked."""
        try:
            return self._elect(self._connect(), shard)
        except psycopg.OperationalError as error:
            log.warning("snapshot.failed", shard=shard, error=str(error).strip())
            return False

    def write(self, shard: int, topic_id: str, next_offset: int, state: bytes) -> bool:
        """Write if this worker is the elected writer; a snapshot can always be made again, so failures only log."""
        try:
            connection = self._connect()
            if not self._elect(connection, shard):
                return False
            connection.execute(
                sql("write_snapshot"),
                {
                    "shard": shard, "topic_id": topic_id, "state_version": STATE_VERSION,
                    "next_offset": next_offset, "state": state,
                },
            )  # fmt: skip
        except psycopg.OperationalError as error:
            log.warning("snapshot.failed", shard=shard, error=str(error).strip())
            return False
        return True

    def _elect(self, connection: psycopg.Connection[object], shard: int) -> bool:
        if shard not in self._elected:
            won = connection.execute(
                "SELECT pg_try_advisory_lock(%s::integer, %s::integer)", [self._lock_space, shard]
            ).fetchone()
            if won and won[0]:  # type: ignore[index]
                self._elected.add(shard)
        return shard in self._elected

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> psycopg.Connection[object]:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._elected.clear()
            self._connection = database.connect(self._postgres, autocommit=True)
        return self._connection
