"""Servers killed under a running stream: a supervised worker goes on by itself, and loses and doubles nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream import Stream, assert_numbering, rankings, send_random, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.local.stack import Stack
from upwell.local.supervisor import Supervisor

pytestmark = pytest.mark.faults


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    """Small batches and frequent flushes, so that a crash finds something unfinished."""
    made = Stream(stack, prefix, kafka={"batch_max_records": 50}, profiles={"flush_ms": 100})
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("server", ["postgres", "kafka"])
def test_a_killed_server_costs_time_only(stack: Stack, stream: Stream, server: str, tmp_path: Path) -> None:
    """A broker that was killed may have forgotten the group's member: the worker then ends with exit code 3, as one
    that was fenced does, and its supervisor starts it again."""
    ids = stream.features(50)
    send_random(stream, ids, 3000)
    with Supervisor() as supervisor, stream.reading(Topic.RANKINGS) as log:
        command = [sys.executable, "-m", "upwell.cli.main", "worker", "interactions"]
        supervisor.start("interactions", command, {**os.environ, **stream.environment}, tmp_path / "worker.log")
        log.until(lambda found: total(found) >= 300)
        stack.restart(server, kill=True)
        send_random(stream, ids, 1000, start=3000)
        records = log.until(lambda found: total(found) == 4000, timeout=120)
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(4000,)])
    assert_numbering(rankings(records))
