"""Snapshots of shared learning: each schema elects a writer of its own, and an older state never replaces a newer one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from support import eventually
from upwell.local.stack import Stack
from upwell.settings import Postgres
from upwell.store import migrations
from upwell.store.snapshots import SnapshotStore

pytestmark = pytest.mark.integration

Open = Callable[[str], SnapshotStore]


@pytest.fixture
def stores(stack: Stack, prefix: str) -> Iterator[Open]:
    """Opens stores by the name of their schema, which is made at first."""
    dsn = stack.endpoints().postgres
    opened: list[SnapshotStore] = []
    schemas: set[str] = set()

    def open_(name: str) -> SnapshotStore:
        postgres = Postgres(dsn=dsn, db_schema=f"{prefix}{name}")  # type: ignore[arg-type]
        if postgres.db_schema not in schemas:
            migrations.migrate(postgres)
            schemas.add(postgres.db_schema)
        opened.append(SnapshotStore(postgres))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for schema in schemas:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def test_each_schema_elects_a_writer_of_its_own(stores: Open) -> None:
    first, second, other = stores("a"), stores("a"), stores("b")
    assert first.write(0, "log", 10, b"ten")
    assert not second.write(0, "log", 20, b"twenty")
    assert second.write(1, "log", 20, b"another shard")
    assert other.write(0, "log", 30, b"thirty")
    assert first.read(0, "log") == second.read(0, "log") == (10, b"ten")
    assert other.read(0, "log") == (30, b"thirty")
    # When the writer is gone, another one is elected.
    first.close()
    eventually(lambda: second.write(0, "log", 20, b"twenty"), 30, "the next one is elected")
    assert second.read(0, "log") == (20, b"twenty")


def test_an_older_state_never_replaces_a_newer_one(stores: Open) -> None:
    store = stores("a")
    assert store.write(0, "log", 20, b"twenty")
    assert store.write(0, "log", 10, b"ten")
    assert store.read(0, "log") == (20, b"twenty")
    assert store.read(0, "another log") is None
    assert store.write(0, "another log", 1, b"one")
    assert store.read(0, "another log") == (1, b"one")
