"""Snapshots of shared learning: each schema elects a writer of its own, an older state never replaces a newer one, and
what a snapshot lacks is learned from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from confluent_kafka import TopicPartition
from psycopg import sql

from stream import START_MS, Stream
from support import eventually
from upwell.bus.errors import Inconsistent
from upwell.bus.topics import Topic
from upwell.events.contracts import STATISTICS_VERSION, ReactionCount, Statistics
from upwell.interactions.lessons import Taught
from upwell.interactions.readers import StatisticsReader
from upwell.local.stack import Stack
from upwell.ranking.arms import Arms
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.learner import Tuning
from upwell.ranking.newcomers import FirstImpressions
from upwell.ranking.ranker import Ranker
from upwell.ranking.segments import Segments
from upwell.settings import Postgres
from upwell.store import migrations, snapshots
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


def test_a_snapshot_of_an_older_release_is_learned_again_and_one_of_a_newer_release_is_not_guessed_at(
    stores: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores("a")
    assert store.write(0, "log", 20, b"twenty")
    monkeypatch.setattr(snapshots, "STATE_VERSION", snapshots.STATE_VERSION + 1)
    assert store.read(0, "log") is None
    assert store.write(0, "log", 10, b"ten of the next release")
    assert store.read(0, "log") == (10, b"ten of the next release")
    monkeypatch.undo()
    with pytest.raises(snapshots.NewerSnapshot, match="upgrade"):
        store.read(0, "log")
    # The older release may still be running: it leaves the newer one's state alone.
    assert store.write(0, "log", 30, b"thirty")
    with pytest.raises(snapshots.NewerSnapshot):
        store.read(0, "log")


def test_a_snapshot_is_continued_and_one_that_does_not_fit_is_learned_again(stack: Stack, prefix: str) -> None:
    stream = Stream(stack, prefix)
    stores: list[SnapshotStore] = []

    @contextmanager
    def opened() -> Iterator[StatisticsReader]:
        catalogue = Catalogue()
        stores.append(SnapshotStore(stream.settings.postgres))
        reader = StatisticsReader(
            stream.settings,
            stream.admin,
            catalogue,
            Ranker(catalogue, 1.0),
            Arms(86_400_000.0),
            FirstImpressions(50, 0.2),
            Segments(86_400_000.0),
            stores[-1],
        )
        try:
            reader.to_end()
            yield reader
        finally:
            reader.close()
            stores[-1].close()

    def told(number: int) -> None:
        taught = Taught(Tuning())
        at, rows = taught.place(), taught.rows
        rows.item[at], rows.valence[at], rows.stage[at] = 0, 1.0, 1
        rows.held[at], rows.before[at, 0], rows.before_valence[at, 0] = 1, 1, 1.0
        ((names, told),) = taught.records(["a", "b"], 1)
        record = Statistics(0, [], [], START_MS, lesson_items=names, taught=told)
        record.reactions = [ReactionCount("template", START_MS, 1, number)]
        stream.send(Topic.STATISTICS, "0", record)
        stream.flush()

    def held(reader: StatisticsReader) -> tuple[int, object]:
        return int(reader.ranker.shared.clock[0]), reader.arms.sums

    def written(reader: StatisticsReader) -> bool:
        reader.snapshot()
        return stream.rows("SELECT next_offset FROM statistics_snapshots") != []

    try:
        told(0)
        told(1)
        with opened() as reader:
            eventually(lambda: written(reader), 30, "a snapshot")
            before = held(reader)
        assert before[0] == 2
        # The first record expires: only the snapshot still knows what it taught.
        cut = [TopicPartition(stream.topic(Topic.STATISTICS), 0, 1)]
        for deleted in stream.admin.delete_records(cut).values():
            deleted.result()
        with opened() as reader:
            assert held(reader) == before
        told(2)
        with opened() as reader:
            assert held(reader)[0] == 3
        with psycopg.connect(stack.endpoints().postgres, autocommit=True) as connection:
            name = sql.Identifier(stream.settings.postgres.db_schema, "statistics_snapshots")
            connection.execute(sql.SQL("UPDATE {} SET state = %s").format(name), [b"of another release"])
        with opened() as reader:
            assert held(reader)[0] == 2  # what the log still tells
        # What an older release told is passed over, its counts are not; what a newer one tells is not guessed at.
        old = Statistics(0, [], [], START_MS, state_version=1, lesson_items=["a", "b"])
        old.reactions = [ReactionCount("template", START_MS, 1, 1)]
        stream.send(Topic.STATISTICS, "0", old)
        stream.flush()
        with opened() as reader:
            assert held(reader)[0] == 2
        stream.send(Topic.STATISTICS, "0", Statistics(0, [], [], START_MS, state_version=STATISTICS_VERSION + 1))
        stream.flush()
        with pytest.raises(Inconsistent, match="newer release"), opened():
            pass
    finally:
        stream.close()
