"""The local stack on real servers: they answer, keep their data, recover, end with their parent, and say what is wrong."""

from __future__ import annotations

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from support import eventually
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration


def test_endpoints_answer(stack: Stack) -> None:
    endpoints = stack.endpoints()
    brokers = AdminClient({"bootstrap.servers": endpoints.kafka}).list_topics(timeout=10).brokers
    assert len(brokers) == 1
    with psycopg.connect(endpoints.postgres) as database:
        (version,) = database.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        assert version >= "0.8"
        (server,) = database.execute("SHOW server_version_num").fetchone()
        assert int(server) >= 180000


def test_start_again_joins_what_runs(stack: Stack) -> None:
    before = {name: found["pid"] for name, found in stack.status()["services"].items()}
    Stack(stack.home).start(("kafka", "postgres"))
    assert {name: found["pid"] for name, found in stack.status()["services"].items()} == before


def test_killed_server_comes_back_with_its_data(stack: Stack, prefix: str) -> None:
    with psycopg.connect(stack.endpoints().postgres, autocommit=True) as database:
        database.execute(f"CREATE TABLE {prefix}kept AS SELECT 42 AS answer")
    before = stack.pid("postgres")
    stack.restart("postgres", kill=True)
    assert stack.pid("postgres") != before

    def answer() -> bool:
        with psycopg.connect(stack.endpoints().postgres) as database:
            return database.execute(f"SELECT answer FROM {prefix}kept").fetchone() == (42,)

    assert eventually(answer, message="the table is there after a crash")
