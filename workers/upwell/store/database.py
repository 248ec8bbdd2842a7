"""Connections to Postgres, and the SQL files. Statements live in `sql/`, named; none is pasted together in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import psycopg
import structlog
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from upwell.settings import ConfigError, Postgres
from upwell.store import arrays

log = structlog.get_logger("upwell.store")


@cache
def sql(name: str) -> str:
    """The statement in `sql/<name>.sql`."""
    return resources.files("upwell.store").joinpath(f"sql/{name}.sql").read_text("utf-8")


def connect(postgres: Postgres, *, vectors: bool = True, **options: Any) -> psycopg.Connection[Any]:
    """One connection, its search path set to the schema.

    Raises:
        ConfigError: libpq cannot read the settings.
        psycopg.OperationalError: the server does not answer.
    """
    check(postgres)
    connection = psycopg.connect(postgres.dsn.get_secret_value(), **_options(postgres), **options)
    if vectors:
        _configure(connection)
    return connection


def _configure(connection: psycopg.Connection[Any]) -> None:
    register_vector(connection)
    arrays.register(connection)
    connection.commit()  # looking the type up began a transaction


def _options(postgres: Postgres) -> dict[str, Any]:
    # `public` stays on the path: that is where CREATE EXTENSION usually put pgvector.
    return {
        "connect_timeout": max(2, int(postgres.connect_timeout_s)),
        "application_name": "upwell",
        **postgres.options,
        "options": f"-c search_path={postgres.db_schema},public {postgres.options.get('options', '')}",
    }


def check(postgres: Postgres) -> None:
    """Say now what no retry would mend. libpq repeats pieces of what it cannot read, passwords too: only names are said.

    Raises:
        ConfigError: see `connect`.
    """
    try:
        given = conninfo_to_dict(postgres.dsn.get_secret_value())
    except psycopg.ProgrammingError as error:
        unknown = str(error).strip()
        reason = (
            unknown
            if unknown.startswith(("invalid connection option", "invalid URI query parameter"))
            else "neither a libpq connection string (host=… dbname=…) nor a URI (postgresql://user@host:5432/name)"
        )
        raise ConfigError(f"postgres.dsn: {reason}") from None
    try:
        make_conninfo("", **postgres.options)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"postgres.options: {str(error).strip()}") from None
    ports = str({**given, **postgres.options}.get("port") or "")
    for port in map(str.strip, ports.split(",")):
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError(f"postgres: port {port} is no number from 1 to 65535")
    patience = postgres.options.get("connect_timeout", "0")
    if not patience.lstrip("-").isdecimal():
        raise ConfigError(f"postgres.options.connect_timeout = {patience!r}: whole seconds")


def pool(postgres: Postgres) -> ConnectionPool[psycopg.Connection[Any]]:
    """A pool whose connections are checked before use and reconnect by themselves.

    Raises:
        ConfigError: see `connect`.
    """
    check(postgres)
    return ConnectionPool(
        postgres.dsn.get_secret_value(),
        kwargs=_options(postgres),
        min_size=1,
        max_size=postgres.pool_size,
        configure=_configure,
        check=ConnectionPool.check_connection,
        timeout=postgres.connect_timeout_s,
        open=True,
    )


def retrying(patience_s: float = 120.0) -> Retrying:
    """Retries of a whole database transaction while the server restarts, with jittered back-off.

    Use: `for attempt in retrying(): with attempt: …`. Re-raises the last error when patience is over.
    """
    return Retrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(patience_s),
        before_sleep=lambda state: log.warning(
            "postgres.retry", error=str(state.outcome.exception()).strip() if state.outcome else ""
        ),
        reraise=True,
    )


@contextmanager
def transaction(connections: ConnectionPool[psycopg.Connection[Any]]) -> Iterator[psycopg.Cursor[Any]]:
    """A cursor inside one database transaction, results in binary."""
    with connections.connection() as connection, connection.transaction(), connection.cursor(binary=True) as cursor:
        yield cursor
