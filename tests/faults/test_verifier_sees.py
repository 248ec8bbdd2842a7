"""Builds that break the delivery protocol are caught by the verifier; the build as it is, is not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployment import Deployment, deployed
from faults import mutants, testimony
from faults.verifier.judge import Judge
from faults.verifier.outside import Reader, profiles
from faults.verifier.records import Findings
from faults.verifier.users import Profile
from support import eventually
from upwell.local.stack import Stack
from upwell.local.supervisor import Supervisor

pytestmark = pytest.mark.faults

SMALL = {"kafka": {"batch_max_records": 20}, "profiles": {"flush_ms": 1500}}
"""Small batches, and a flush now and then: a kill finds something unfinished."""
TOPICS = ("interactions", "rankings", "interactions.dlq")


class Watched:
    """A deployment, a supervisor of its workers, and an outsider who judges."""

    def __init__(self, own: Deployment, supervisor: Supervisor, folder: Path, mutation: str) -> None:
        self.own, self.supervisor, self.folder, self.mutation = own, supervisor, folder, mutation
        self.judge = Judge(own.prefix)
        self.reader = Reader(own.settings.kafka.bootstrap_servers, own.prefix, TOPICS)
        self.sent = 0

    def start(self, slot: int) -> str:
        """A worker that its supervisor starts again; returns its name there."""
        command = [sys.executable, mutants.__file__, self.mutation, "worker", "interactions", "--slot", str(slot)]
        self.supervisor.start(f"w{slot}", command, {**os.environ, **self.own.environment}, self.log(slot))
        return f"w{slot}"

    def log(self, slot: int) -> Path:
        return self.folder / f"w{slot}.log"

    def send(self, count: int, users: str) -> None:
        """`count` events of users `<users>0` to `<users>9`, in turn."""
        for number in range(self.sent, self.sent + count):
            user = f"{users}{number % 10}"
            event = {"event_id": f"e{number}", "user_id": user, "type": "click", "item_id": "i", "ts": 1 + number}
            self.own.produce("interactions", user, event)
        self.own.flush()
        self.sent += count

    def ranked(self, least: int) -> bool:
        """Whether rankings tell of so many events by now."""
        for record in self.reader.read(0.1):
            self.judge.add(record)
        return sum(user.number[1] for user in self.judge.users.users.values()) >= least

    def stored(self) -> int:
        return sum(profile.version for profile in self._profiles())

    def verdict(self) -> Findings:
        """Once everything is worked off, published and flushed."""
        self.own.drained("interactions", "interactions", timeout=90)
        where = "SELECT sum(next_offset) FROM watermark"
        committed = sum(offset for offset, _ in self.own.committed("interactions", "interactions").values())
        eventually(lambda: self.own.rows(where)[0][0] >= committed, message="the last flush")
        eventually(lambda: not self.ranked(10**9) and len(self.reader.ends) == len(self.reader.next))
        # No other worker runs: only the rules for users and dead letters are judged.
        self.judge.users.finish(self._profiles(), lambda _: None)
        self.judge.letters.finish()
        return self.judge.findings

    def _profiles(self) -> list[Profile]:
        postgres = self.own.settings.postgres
        return profiles(postgres.dsn.get_secret_value(), postgres.db_schema)


def stood_down(log: Path, woken: float) -> bool:
    own = list(testimony.lines(log))
    return testimony.refused(own, woken) or testimony.dropped(own, woken)


@contextmanager
def watched(stack: Stack, prefix: str, folder: Path, mutation: str) -> Iterator[Watched]:
    with deployed(stack, prefix, **SMALL) as own, Supervisor() as supervisor:
        made = Watched(own, supervisor, folder, mutation)
        try:
            yield made
        finally:
            supervisor.close(kill=True)
            made.reader.close()


@pytest.mark.parametrize("mutation", ["none", "ignores_watermark", "commits_first", "swallows"])
def test_a_worker_that_is_killed(stack: Stack, prefix: str, tmp_path: Path, mutation: str) -> None:
    with watched(stack, prefix, tmp_path, mutation) as run:
        name = run.start(0)
        for wave in range(1, 4):
            seen = sum(user.number[1] for user in run.judge.users.users.values())
            run.send(400, "u")
            eventually(lambda seen=seen: run.ranked(seen + 60), 90, f"rankings of wave {wave}", every=0.0)
            run.supervisor.restart(name, kill=True)
        found = run.verdict()
    if mutation == "none":
        assert found.whole, found.shown
    else:
        assert found.lost > 0, found.shown
        assert found.broken["counted"] + found.broken["numbering"]


@pytest.mark.parametrize("mutation", ["none", "flushes_unasked"])
def test_a_zombie(stack: Stack, prefix: str, tmp_path: Path, mutation: str) -> None:
    """Stopped with profiles that are not flushed, until its partitions are another's; then it goes on."""
    with watched(stack, prefix, tmp_path, mutation) as run:
        zombie = run.start(0)
        run.send(100, "u")
        eventually(lambda: run.ranked(100), 90, "rankings", every=0.0)
        eventually(lambda: run.stored() == 100, message="the first flush")
        run.send(100, "u")
        eventually(lambda: run.ranked(200), 90, "more rankings", every=0.0)
        pid = run.supervisor.pid(zombie)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        assert run.stored() == 100, "flushed before it was stopped"
        run.start(1)
        run.send(100, "u")
        eventually(lambda: run.stored() == 300, 90, "the other worker has taken over and flushed")
        woken = time.time()
        os.kill(pid, signal.SIGCONT)
        if mutation == "none":
            # Which of the two comes first is the threads' race: the broker's word, or the flush that is due.
            eventually(lambda: stood_down(run.log(0), woken), message="the zombie is refused, or drops what it holds")
        else:
            eventually(lambda: run.stored() < 300, message="the zombie writes what it had")
        run.send(100, "v")
        found = run.verdict()
    if mutation == "none":
        assert found.whole, found.shown
    else:
        assert found.broken["counted"], found.shown
        assert found.lost > 0
