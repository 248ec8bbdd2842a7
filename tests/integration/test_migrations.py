"""Migrations: the fresh schema equals the migrated one, many may migrate at once, a newer database is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from upwell.local.stack import Stack
from upwell.settings import ConfigError, Postgres
from upwell.store import database, migrations

pytestmark = pytest.mark.integration

NAMES = [name for name, _ in migrations.available()]

CATALOG = {
    "columns": """
        SELECT c.relname, c.relkind, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = %s::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY 1, 4""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname::regnamespace = %s::regnamespace ORDER BY 1, 2",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = %s::regnamespace ORDER BY 1, 2""",
    "tables": """
        SELECT relname, relkind, relpersistence, reloptions, obj_description(oid)
        FROM pg_class WHERE relnamespace = %s::regnamespace ORDER BY 1""",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY 1",
    "types": "SELECT typname, typtype FROM pg_type WHERE typnamespace = %s::regnamespace ORDER BY 1",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal ORDER BY 1""",
}


@dataclass
class Schemas:
    stack: Stack
    prefix: str
    made: list[Postgres]

    def new(self) -> Postgres:
        name = f"{self.prefix}{len(self.made)}"
        postgres = Postgres(dsn=self.stack.endpoints().postgres, db_schema=name)  # type: ignore[arg-type]
        self.made.append(postgres)
        return postgres

    def dump(self, postgres: Postgres) -> dict[str, list[Any]]:
        """What the catalog says, with the schema's own name taken out."""
        with database.connect(postgres, vectors=False) as connection:
            return {
                name: [
                    tuple(str(value).replace(f"{postgres.db_schema}.", "") for value in row)
                    for row in connection.execute(query.encode(), [postgres.db_schema])
                ]
                for name, query in CATALOG.items()
            }


@pytest.fixture
def schemas(stack: Stack, prefix: str) -> Iterator[Schemas]:
    found = Schemas(stack, prefix, [])
    yield found
    with psycopg.connect(stack.endpoints().postgres, autocommit=True) as connection:
        for postgres in found.made:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(postgres.db_schema)))


def test_fresh_and_migrated_schemas_are_equal(schemas: Schemas) -> None:
    fresh, migrated = schemas.new(), schemas.new()
    assert migrations.migrate(fresh) == NAMES
    for name in NAMES:
        assert migrations.migrate(migrated, up_to=name) == [name]
    assert schemas.dump(fresh) == schemas.dump(migrated)
    assert {row[0] for row in schemas.dump(fresh)["tables"]} >= {"profiles", "items", "watermark", "contents"}


def test_a_second_migration_does_nothing(schemas: Schemas) -> None:
    postgres = schemas.new()
    migrations.migrate(postgres)
    before = schemas.dump(postgres)
    assert migrations.migrate(postgres) == []
    assert schemas.dump(postgres) == before


def test_the_dump_sees_a_difference(schemas: Schemas) -> None:
    one, other = schemas.new(), schemas.new()
    migrations.migrate(one)
    migrations.migrate(other)
    for change in (
        "ALTER TABLE items ALTER COLUMN title DROP DEFAULT",
        "CREATE INDEX more ON items (language)",
        "ALTER TABLE items ADD CONSTRAINT never_negative CHECK (quality >= 0)",
    ):
        with database.connect(other, vectors=False) as connection:
            connection.execute(change.encode())
        assert schemas.dump(one) != schemas.dump(other)
        with database.connect(one, vectors=False) as connection:
            connection.execute(change.encode())
        assert schemas.dump(one) == schemas.dump(other)


def test_many_may_migrate_at_once(schemas: Schemas) -> None:
    postgres = schemas.new()
    with ThreadPoolExecutor(8) as pool:
        done = [name for applied in pool.map(lambda _: migrations.migrate(postgres), range(8)) for name in applied]
    assert sorted(done) == NAMES  # each by exactly one of them
    fresh = schemas.new()
    migrations.migrate(fresh)
    assert schemas.dump(postgres) == schemas.dump(fresh)


def test_a_newer_database_is_refused(schemas: Schemas) -> None:
    postgres = schemas.new()
    migrations.migrate(postgres)
    before = schemas.dump(postgres)
    with database.connect(postgres, vectors=False) as connection:
        connection.execute("INSERT INTO migrations (name) VALUES ('9999_from_the_future')")
    with pytest.raises(ConfigError, match="9999_from_the_future"):
        migrations.migrate(postgres)
    assert schemas.dump(postgres) == before


def test_a_migration_that_fails_leaves_nothing(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = schemas.new()
    migrations.migrate(postgres)
    before = schemas.dump(postgres)
    broken = [*migrations.available(), ("9000_broken", "CREATE TABLE half (id int); SELECT no_such_function();")]
    monkeypatch.setattr(migrations, "available", lambda: broken)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        migrations.migrate(postgres)
    assert schemas.dump(postgres) == before


def test_the_command_migrates_and_says_so(schemas: Schemas) -> None:
    postgres = schemas.new()
    environment = os.environ | {
        "UPWELL_POSTGRES__DSN": postgres.dsn.get_secret_value(),
        "UPWELL_POSTGRES__DB_SCHEMA": postgres.db_schema,
    }
    command = [sys.executable, "-m", "upwell.cli.main", "migrate"]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert first.stdout.splitlines() == [f"applied {name}" for name in NAMES]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout.strip() == "nothing to do"
    with database.connect(postgres, vectors=False) as connection:
        connection.execute("INSERT INTO migrations (name) VALUES ('9999_from_the_future')")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "9999_from_the_future" in refused.stderr) == (2, True)
