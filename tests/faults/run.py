"""One run: start everything, send the stream, inflict the faults, wait until all is worked off, let the verifier judge."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import testimony
from faults.cluster import (
    BEGIN_S,
    PARTITIONS,
    PREFIX,
    SESSION_MS,
    TRANSACTION_MS,
    WORKERS,
    Cluster,
    Program,
    real_worker,
)
from faults.plan import Fault, Input, Sent, schedule
from faults.producer import Producer
from faults.verifier.judge import READ, TRIGGERS, Judge, Stored
from faults.verifier.outside import Group, Reader, items, profiles, versions
from faults.verifier.records import Findings
from faults.watch import INPUT, Watch, quantile, wait
from support import eventually

INPUTS = {"interactions": ("interactions",), "items": ("items",), "content": (*TRIGGERS, "requests"),
          "trends": ("statistics",)}  # fmt: skip
AT_ONCE = 3
"""Faults that may be felt at the same time."""
LIMIT_S = 120.0
"""A fault that is felt for longer is one that nothing recovered from."""
SETTLING, SETTLE_S = ("interactions", "items", "content"), 60.0
"""Workers that say which partitions they have."""
DRAIN_S, STORED_S = 240.0, 60.0
"""Patience until everything is worked off and published, and then until Postgres, which follows by a bound, has it."""
NOT_RUN = {
    "connection cuts and delays (TCP proxy)": "not built",
    "full disk": "not built",
    "clock jumps (libfaketime)": "not built",
    "text generator": "its model is not served: content is written by the template",
}
"""What of the harness's faults and parts this machine or this harness does not do."""


@dataclass(frozen=True, slots=True)
class Felt:
    """What became of a fault."""

    fault: Fault
    began: float
    """Unix seconds."""
    recovered_s: float | None
    """None: not within the limit, or the run was over before."""
    woken: float | None
    """When what was frozen went on, Unix seconds."""


@dataclass
class Outcome:
    """What a run showed."""

    seed: int
    events: int
    felt: list[Felt]
    findings: Findings
    takeovers: int
    zombies: int
    zombies_refused: int
    zombies_dropped: int
    """Of those that were refused nothing: they learned first that they had lost their partitions, and dropped all of it."""
    exits: dict[str, int]
    """How often workers ended by themselves, by worker and exit code."""
    seconds: float
    checked: dict[str, int]
    unrecovered: list[Fault] = field(default_factory=list)

    @property
    def crashes(self) -> dict[str, int]:
        """Ends with a code that no fault explains: 2, configuration, and 70, a bug."""
        return {what: count for what, count in self.exits.items() if what.endswith((" 2", " 70"))}

    @property
    def passed(self) -> bool:
        return self.findings.whole and not self.crashes and not self.unrecovered

    def kinds(self) -> dict[str, dict[str, float]]:
        """By kind of fault: count, and seconds until it was over, median and longest."""
        by: dict[str, list[float | None]] = defaultdict(list)
        for felt in self.felt:
            by[f"{felt.fault.kind} {felt.fault.target}"].append(felt.recovered_s)
        return {
            kind: {
                "count": len(times),
                "p50_s": round(quantile([t for t in times if t is not None], 0.5), 1),
                "max_s": round(quantile([t for t in times if t is not None], 1.0), 1),
            }
            for kind, times in sorted(by.items())
        }

    def report(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "events": self.events, "faults": len(self.felt), "takeovers": self.takeovers, "zombies": self.zombies,
            "zombies_refused": self.zombies_refused, "zombies_dropped": self.zombies_dropped, "not_run": NOT_RUN, "lost": self.findings.lost,
            "doubled": self.findings.doubled, "seed": self.seed, "violations": dict(self.findings.broken),
            "exits": self.exits, "unrecovered": len(self.unrecovered), "kinds": self.kinds(),
            "checked": self.checked, "session_timeout_ms": SESSION_MS, "transaction_timeout_ms": TRANSACTION_MS,
            "seconds": round(self.seconds),
        }  # fmt: skip


class Run:
    def __init__(self, cluster: Cluster, seed: int, events: int, rate: int, say: Callable[[str], None]) -> None:
        self.cluster, self.seed, self.events, self.rate, self.say = cluster, seed, events, rate, say
        self.judge = Judge(PREFIX)
        self.producer = Producer(cluster.servers, PREFIX)
        self.reader = Reader(cluster.servers, PREFIX, READ)
        self.groups = {
            name: Group(cluster.servers, f"{PREFIX}-{name}", PREFIX,
                        [where for where in self.reader.next if where[0] in INPUTS[name]])
            for name in INPUT
        }  # fmt: skip
        self.watch = Watch(self.groups, self.producer)
        self.felt: list[Felt] = []
        self.stop = threading.Event()
        self._busy: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        """All faults are."""
        self._read = threading.Event()
        """Has been done."""
        self._failed: list[BaseException] = []

    def go(self, faults: list[Fault], limit_s: float) -> Outcome:
        """Run to the end; after `limit_s` no new fault begins."""
        self._until = time.monotonic() + limit_s
        began = time.monotonic()
        reading = threading.Thread(target=self._reading, daemon=True)
        reading.start()
        try:
            self._outdo(faults)
            self.producer.finish()
            self.say(f"all {self.producer.acknowledged} records are acknowledged; waiting until they are worked off")
            self._drain()
        finally:
            self.stop.set()
            self._read.set()
            reading.join()
            self.watch.close()
        if self._failed:
            raise self._failed[0]
        return self._outcome(time.monotonic() - began)

    def _outdo(self, faults: list[Fault]) -> None:
        """The stream and the faults beside each other; returns when both have ended."""
        source = Input(self.seed, self.rate, PARTITIONS)
        self.producer.run(source.catalogue(), 0, self.stop)
        self.producer.flush()
        eventually(
            lambda: self._failed or self.watch.worked_off("items"), BEGIN_S, "the catalogue is embedded", every=0.2
        )
        self.say("the catalogue is embedded; the stream begins")
        with ThreadPoolExecutor(1 + AT_ONCE) as pool:
            sending = pool.submit(self.producer.run, self._enough(source.stream()), self.rate, self.stop)
            try:
                eventually(lambda: self._failed or self.watch.running(), BEGIN_S, "every group works", every=0.2)
                self.say("every group works; the faults begin")
                self._inflict(faults, pool, sending)
                self._over.set()
                sending.result()
            except BaseException:
                self.stop.set()
                raise

    def _enough(self, records: Iterator[Sent]) -> Iterator[Sent]:
        """As much of the stream as was asked for, and more until every fault is over."""
        for record in records:
            if self.producer.events >= self.events and self._over.is_set():
                return
            yield record

    def _inflict(self, faults: list[Fault], pool: ThreadPoolExecutor, sending: Future[None]) -> None:
        open_: list[Future[None]] = []
        for fault in faults:
            if self.stop.wait(fault.after_s) or sending.done() or self._failed or time.monotonic() > self._until:
                break
            while (sum(not one.done() for one in open_) >= AT_ONCE or not self._free(fault)) and not sending.done():
                self.stop.wait(0.1)
            if sending.done():
                break
            open_.append(pool.submit(self._one, fault))
        for one in open_:
            one.result()

    def _free(self, fault: Fault) -> bool:
        """Whether the target is there and nothing else of its kind is being done: one broker at a time, and of each
        group one worker stays; then it is taken."""
        if self.cluster.pid(fault.target, fault.number) is None:
            return False
        if fault.target == "broker" and not self.cluster.in_sync():
            return False
        with self._lock:
            if any(target == fault.target for target, _ in self._busy):
                return False
            self._busy.add((fault.target, fault.number))
        return True

    def _one(self, fault: Fault) -> None:
        target, number = fault.target, fault.number
        woken = None
        log = self.cluster.log(target, number)
        said = log.stat().st_size if target in SETTLING else 0
        try:
            marks, began = self.watch.marks(target), time.time()
            if fault.kind == "kill":
                self.cluster.kill(target, number)
                recovered = wait(self.stop, self.watch, marks, LIMIT_S)
            elif fault.kind == "lose":
                self.cluster.lose(target, number)
                recovered = wait(self.stop, self.watch, marks, LIMIT_S)
                self.cluster.start(target, number)
            else:
                stopped = self.cluster.freeze(target, number)
                try:
                    if target in WORKERS:
                        recovered = wait(self.stop, self.watch, marks, LIMIT_S)
                    else:
                        self.stop.wait(fault.seconds)
                finally:
                    self.cluster.thaw(stopped)
                woken = time.time()
                if target not in WORKERS:
                    recovered = wait(self.stop, self.watch, marks, LIMIT_S)
            if target in SETTLING:
                self._settle(log, said)
            self.felt.append(Felt(fault, began, recovered, woken))
            took = "not over" if recovered is None else f"over after {recovered:.1f} s"
            self.say(f"{len(self.felt):4d}  {fault.kind} {target} {number}: {took}")
        finally:
            with self._lock:
                self._busy.discard((target, number))

    def _settle(self, log: Path, said: int) -> None:
        """Until the worker has partitions again: whoever is the next fault's has something to lose."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline and not self.stop.wait(0.5):
            if any(line.event == testimony.ASSIGNED for line in testimony.lines(log, said)):
                return

    def _reading(self) -> None:
        """All topics, as they grow, to the judge."""
        try:
            while not self._read.is_set():
                for record in self.reader.read(0.2):
                    self.judge.add(record)
        except BaseException as error:
            self._failed.append(error)
            self.stop.set()

    def _drain(self) -> None:
        """Until everything that came in is worked off, published, read and stored; or for `DRAIN_S`: what is missing then
        is the verifier's to say."""

        def done() -> bool:
            if self._failed:
                return True
            before = dict(self.reader.next)
            if not self.reader.whole(self.groups["interactions"]):
                return False
            for name, group in self.groups.items():
                committed = group.committed()
                if any(committed[where][0] < self.reader.next[where] for where in committed if self.reader.next[where]):
                    self._last = name
                    return False
            return before == self.reader.next and self.reader.whole(self.groups["interactions"])

        def stored() -> bool:
            kept = versions(self.cluster.dsn, self.cluster.schema)
            return all(
                kept.get(name, 0) >= len(user.seen) for name, user in self.judge.users.users.items() if user.seen
            )

        for what, condition, limit in (("worked off and published", done, DRAIN_S), ("stored", stored, STORED_S)):
            try:
                eventually(_patient(condition), limit, what, every=0.5)
            except AssertionError as error:
                self.say(f"not everything is {what}: {error}")

    def _outcome(self, seconds: float) -> Outcome:
        outcomes = {where: text for where, (_, text) in self.groups["content"].committed(30.0).items()}
        dsn, schema = self.cluster.dsn, self.cluster.schema
        findings = self.judge.finish(Stored(profiles(dsn, schema), items(dsn, schema), outcomes))
        if (kept := sum(count for count in self.reader.read_of.values())) < self.producer.acknowledged:
            missing = self.producer.acknowledged - kept
            findings.add("log", None, f"{missing} acknowledged records are not in the log", lost=missing)
        logs = {
            (name, slot): list(testimony.lines(self.cluster.log(name, slot)))
            for name, count in self.cluster.workers.items()
            for slot in range(count)
        }
        takeovers = zombies = refused = dropped = 0
        for felt in self.felt:
            if felt.fault.kind == "kill" or felt.fault.target not in WORKERS:
                continue
            own = (felt.fault.target, felt.fault.number)
            others = [found for (name, slot), found in logs.items() if name == own[0] and slot != own[1]]
            end = felt.woken or felt.began + (felt.recovered_s or LIMIT_S)
            if testimony.moved(logs[own], others, felt.began, end):
                takeovers += 1
                if felt.woken is not None:
                    zombies += 1
                    if testimony.refused(logs[own], felt.woken):
                        refused += 1
                    else:
                        dropped += testimony.dropped(logs[own], felt.woken)
        judged = self.judge
        return Outcome(
            seed=self.seed, events=self.producer.events, felt=self.felt, findings=findings, takeovers=takeovers, zombies=zombies,
            zombies_refused=refused, zombies_dropped=dropped, exits=self._exits(), seconds=seconds,
            checked={
                "distinct_events": judged.users.events, "repeats": judged.users.repeats,
                "rankings": judged.users.rankings, "profiles": judged.users.compared, "profiles_waiting": judged.users.waiting, "items": len(judged.items.lives),
                "triggers": len(judged.contents.triggers), "requests": len(judged.contents.requests),
                "contents": len(judged.contents.contents), "dead_letters": len(judged.letters.letters),
            },
            unrecovered=[felt.fault for felt in self.felt if felt.recovered_s is None],
        )  # fmt: skip

    def _exits(self) -> dict[str, int]:
        ended = Counter(f"{name.partition('-')[0]} {code}" for _, name, code in self.cluster.ends if code > 0)
        return dict(sorted(ended.items()))

    def close(self) -> None:
        self.stop.set()
        self.reader.close()
        for group in self.groups.values():
            group.close()


def _patient(condition: Callable[[], bool]) -> Callable[[], bool]:
    """As `condition`; a server that is away for a moment means not yet."""

    def asked() -> bool:
        try:
            return condition()
        except Exception as error:
            raise AssertionError(repr(error)) from error

    return asked


def run(
    seed: int,
    events: int,
    rate: int,
    mix: Mapping[tuple[str, str], int],
    gap_s: float,
    say: Callable[[str], None],
    limit_s: float = math.inf,
    program: Program = real_worker,
) -> Outcome:
    """Everything from an empty folder to the verdict; leaves nothing behind. After `limit_s` no new fault begins."""
    with tempfile.TemporaryDirectory(prefix="upwell-faults-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with Cluster(home, say, program) as cluster:
            going = Run(cluster, seed, events, rate, say)
            try:
                return going.go(schedule(seed, dict(mix), gap_s), limit_s)
            finally:
                going.close()
