"""Numbered SQL files in, an up-to-date schema out. One migrator at a time; each file is one transaction, applied once."""

from __future__ import annotations

from importlib import resources

from psycopg import sql

from upwell.settings import ConfigError, Postgres
from upwell.store import database

LOCK = 0x757077656C6C  # "upwell"


def available() -> list[tuple[str, str]]:
    """(name, text) of every migration, in order."""
    folder = resources.files("upwell.store").joinpath("sql/migrations")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [(f.name.removesuffix(".sql"), f.read_text("utf-8")) for f in files]


def migrate(postgres: Postgres, *, up_to: str | None = None) -> list[str]:
    """Apply what is missing, up to and including `up_to`.

    Returns:
        Names of the migrations applied now.

    Raises:
        ConfigError: the database is newer than this release.
    """
    applied_now: list[str] = []
    schema = sql.Identifier(postgres.db_schema)
    for attempt in database.retrying():
        with attempt, database.connect(postgres, vectors=False, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            done = {name for (name,) in connection.execute("SELECT name FROM migrations")}
            known = available()
            if newer := done - {name for name, _ in known}:
                raise ConfigError(
                    f"schema {postgres.db_schema} has migration {max(newer)}, which this release does not know: "
                    "run the newer release, or restore a backup"
                )
            for name, text in known:
                if name in done or (up_to is not None and name > up_to):
                    continue
                with connection.transaction():
                    connection.execute(text.encode())
                    connection.execute("INSERT INTO migrations (name) VALUES (%s)", [name])
                applied_now.append(name)
    return applied_now
