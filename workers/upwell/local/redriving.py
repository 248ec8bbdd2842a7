"""Thousands of dead letters made by the real worker, redriven by the real command, which is killed on the way and then
run twice at once; what arrived, counted from outside, out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import msgspec
import numpy as np

from upwell.bus import clients, topics
from upwell.bus.reader import LogReader
from upwell.bus.topics import Topic
from upwell.evaluation.reader import Reader
from upwell.evaluation.verify import judge
from upwell.events.codec import encode
from upwell.events.contracts import Interaction, ItemFeatures
from upwell.local.errors import StackError
from upwell.local.publisher import Publisher
from upwell.local.stack import Endpoints, Stack
from upwell.local.supervisor import State, Supervisor
from upwell.settings import Settings, Telemetry
from upwell.store import database, migrations
from upwell.telemetry import logs

REFUSED_TYPE: Final = "tap"
"""Has no weight at first: the slip that fills the dead letters, and that a setting mends."""
USERS: Final = 500
ITEMS: Final = 50
DIMENSION: Final = 16
GOOD_SHARE: Final = 0.1
"""Beside each hundred bad events so many hundreds of good ones."""
KILLS: Final = (0.25, 0.5, 0.75)
"""The redrive is killed when so much of it can be read."""
SECONDS: Final = 6.0
"""A redrive that is to be killed would take about so long."""
PATIENCE_S: Final = 180.0
LOOK_S: Final = 0.02


@dataclass(frozen=True)
class Plan:
    """What to run."""

    letters: int = 10_000
    at_once: int = 2
    """Redrives at the same time, of what the killed ones left."""


@dataclass(frozen=True)
class Report:
    """What came of it, counted from outside."""

    letters: int
    killed_after: list[int]
    """Letters that could be read back on their topic when each redrive had been killed."""
    taken_over: int
    """Redrives that were ended by another one."""
    missing: int
    doubled: int
    """Letters that did not arrive on their topic, and that arrived more than once."""
    moved: int
    """Letters that arrived in another partition or under another key."""
    left_open: int
    """Letters that `upwell dlq list` still offers."""
    lost: int
    duplicated: int
    """Of all events, letters among them: by the numbering of the rankings, and by the stored versions."""
    last_redrive_s: float
    """From the start of the last redrives to their end; processes included."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Event(msgspec.Struct):
    event_id: str


class Redriving:
    """One run. `with Redriving(plan, say) as run: report = run.run()`.

    Args:
        stack: servers that are there; by default ones are started, and ended.
        name: prefix of topics and groups, and schema of the tables.
    """

    def __init__(
        self, plan: Plan, say: Callable[[str], None] = lambda _: None, stack: Stack | None = None, name: str = "redrive"
    ) -> None:
        self.plan, self.say, self.name = plan, say, name
        self._folder = TemporaryDirectory(prefix="upwell-redrive-")
        self._stack = stack
        self._own: Stack | None = None
        self._supervisor = Supervisor()
        self._publishers: list[Publisher] = []
        self._reader: Reader | None = None
        self._redrives: list[subprocess.Popen[str]] = []
        self._sets: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for redrive in self._redrives:
            redrive.kill()
            redrive.communicate()
        for publisher in self._publishers:
            publisher.stop()
        self._supervisor.close(kill=kind is not None)
        if self._reader is not None:
            self._reader.stop()
        if self._own is not None:
            self._own.wipe()
        self._folder.cleanup()

    def run(self) -> Report:
        """
        Raises:
            StackError: a server, a worker or a redrive fails, or nothing moves any more.
        """
        settings = self._prepare(self._servers())
        good = int(self.plan.letters * GOOD_SHARE)
        self.say(f"{self.plan.letters:,} events of a type without a weight, and {good:,} others")
        self._publish(settings, good)
        self._worker("before")
        self._await(lambda: self._dead() >= self.plan.letters, "the dead letters")
        self._supervisor.stop("before")
        self._worker("after", {"events.weights": json.dumps({REFUSED_TYPE: 1.0})})
        before = self.plan.letters + good
        killed_after = [self._killed(before, part) for part in KILLS]
        self.say(f"{self.plan.at_once} redrives of the rest at once")
        began = time.monotonic()
        self._redrives = [self._redrive() for _ in range(self.plan.at_once)]
        codes = [self._ended(redrive) for redrive in self._redrives]
        seconds = time.monotonic() - began
        self._await(lambda: self._ranked() >= before, "the rankings of what was redriven")
        missing, doubled, moved = self._arrived(settings)
        verdict = judge(self.reader.observed.counted(self.reader.dead_interactions())[0], self.reader.numbering,
                        self._stored(settings, before))  # fmt: skip
        return Report(
            letters=self._dead(), killed_after=killed_after, taken_over=sum(code == 3 for code in codes),
            missing=missing, doubled=doubled, moved=moved, left_open=self._open(),
            lost=verdict.lost, duplicated=verdict.duplicated, last_redrive_s=round(seconds, 1),
        )  # fmt: skip

    def _servers(self) -> Endpoints:
        if self._stack is not None:
            return self._stack.endpoints()
        self.say("starting the servers")
        self._own = self._stack = Stack(Path(self._folder.name) / "stack", ephemeral=True)
        return self._own.start(("kafka", "postgres"), progress=self.say)

    def _prepare(self, endpoints: Endpoints) -> Settings:
        logs.configure(Telemetry(log_level="error"))
        self._sets = {
            "kafka.bootstrap_servers": endpoints.kafka, "kafka.topic_prefix": f"{self.name}.",
            "kafka.group_prefix": self.name, "postgres.dsn": endpoints.postgres,
            "postgres.db_schema": self.name.replace("-", "_"),
            "dead_letters.max_in_a_row": "0", "dead_letters.max_share": "1",
        }  # fmt: skip
        settings = Settings.load(None, self._sets)
        topics.create(settings.kafka, clients.admin(settings.kafka))
        migrations.migrate(settings.postgres)
        self._reader = Reader(settings.kafka).start()
        return settings

    def _publish(self, settings: Settings, good: int) -> None:
        rng = np.random.default_rng(1)
        now = time.time_ns() // 1_000_000
        features = []
        for number in range(ITEMS):
            vector = rng.normal(size=DIMENSION)
            unit = (vector / np.linalg.norm(vector)).astype("<f4").tobytes()
            features.append((f"i{number}".encode(), encode(ItemFeatures(f"i{number}", unit, "made-1"))))
        kinds = [REFUSED_TYPE] * self.plan.letters + ["click"] * good
        rng.shuffle(kinds)
        events = []
        for number, kind in enumerate(kinds):
            user, item = f"u{rng.integers(USERS)}", f"i{rng.integers(ITEMS)}"
            events.append((user.encode(), encode(Interaction(f"{kind}-{number}", user, kind, now + number, item))))
        for topic, records in ((Topic.ITEM_FEATURES, features), (Topic.INTERACTIONS, events)):
            publisher = Publisher(settings.kafka, topics.real(settings.kafka, topic), records)
            self._publishers.append(publisher)
            publisher.start()
        self._await(lambda: all(publisher.finished for publisher in self._publishers), "the events to be published")

    def _worker(self, name: str, more: Mapping[str, str] | None = None) -> None:
        assert self._stack is not None
        self._supervisor.start(
            name,
            self._command("worker", "interactions", more=more),
            env={**os.environ, "UPWELL_STACK": str(self._stack.home)},
            log_path=self._log(name),
        )

    def _command(self, *arguments: str, more: Mapping[str, str] | None = None) -> list[str]:
        sets = [
            part for name, value in (self._sets | dict(more or {})).items() for part in ("--set", f"{name}={value}")
        ]
        return [sys.executable, "-m", "upwell.cli.main", *arguments, *sets]

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.log"

    def _redrive(self, *arguments: str) -> subprocess.Popen[str]:
        command = self._command("dlq", "redrive", "--topic", Topic.INTERACTIONS, "--json", *arguments)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _killed(self, before: int, part: float) -> int:
        """Redrive until that part of all can be read, then kill -9; how much of it could be read then."""
        wanted = int(self.plan.letters * part)
        redrive = self._redrive("--rate", str(self.plan.letters / SECONDS))
        self._redrives.append(redrive)
        self._await(lambda: self._back(before) >= wanted or redrive.poll() is not None, f"{wanted:,} letters")
        if redrive.poll() is not None:
            raise StackError(f"the redrive ended before it was killed: {redrive.communicate()[1][-2000:]}")
        redrive.kill()
        redrive.communicate()
        back = self._back(before)
        self.say(f"redrive killed after {back:,} of {self.plan.letters:,}")
        return back

    def _ended(self, redrive: subprocess.Popen[str]) -> int:
        _, said = redrive.communicate(timeout=PATIENCE_S)
        if redrive.returncode not in (0, 3):
            raise StackError(f"a redrive ended with code {redrive.returncode}: {said[-2000:]}")
        return redrive.returncode

    def _open(self) -> int:
        command = self._command("dlq", "list", "--topic", Topic.INTERACTIONS, "--json")
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        return int(json.loads(told)["letters"])

    def _arrived(self, settings: Settings) -> tuple[int, int, int]:
        """Letters that are not once more on their topic, that are more than once, and copies elsewhere."""
        log = LogReader(settings.kafka, topics.real(settings.kafka, Topic.INTERACTIONS), "arrived")
        first: dict[str, tuple[int, bytes | None]] = {}
        copies: Counter[str] = Counter()
        moved = 0
        try:
            for batch in log.to_end():
                for message in batch:
                    event = msgspec.json.decode(message.value() or b"", type=_Event).event_id
                    where = (message.partition(), message.key())
                    if event.startswith(REFUSED_TYPE):
                        if event in first:
                            copies[event] += 1
                            moved += where != first[event]
                        first.setdefault(event, where)
        finally:
            log.close()
        return self.plan.letters - len(copies), sum(copies.values()) - len(copies), moved

    def _stored(self, settings: Settings, wanted: int) -> dict[str, int]:
        found: dict[str, int] = {}

        def read() -> int:
            nonlocal found
            with database.connect(settings.postgres, vectors=False) as connection:
                found = dict(connection.execute(database.sql("profile_versions").encode()).fetchall())
            return sum(found.values())

        self._await(lambda: read() >= wanted, "the profiles")
        return found

    @property
    def reader(self) -> Reader:
        assert self._reader is not None
        return self._reader

    def _dead(self) -> int:
        return len(self.reader.dead_letters)

    def _back(self, before: int) -> int:
        return self.reader.records[Topic.INTERACTIONS] - before

    def _ranked(self) -> int:
        return sum(self.reader.numbering.versions().values())

    def _await(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            for failure in (self.reader.failure, *(publisher.failure for publisher in self._publishers)):
                if failure is not None:
                    raise StackError(str(failure)) from failure
            for name, process in self._supervisor.processes.items():
                if process.state is State.FINISHED:
                    raise StackError(f"the worker ended with code {process.exit_code}: {self._tail(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"waited {PATIENCE_S:.0f} s in vain for {what}")
            time.sleep(LOOK_S)

    def _tail(self, name: str) -> str:
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-8:])
