"""`upwell dlq`: dead letters counted, looked at, written back to where they came from, given up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from upwell.bus.letters import Box, Choice, Letter, Place, Settled
    from upwell.bus.settling import Settler
    from upwell.lifecycle import Stop
    from upwell.settings import Settings

dlq_app = typer.Typer(
    help="Dead letters: what could not be processed, why, and what becomes of it.", no_args_is_help=True
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Of this topic, such as `interactions`; repeatable.")]
Workers = Annotated[list[str] | None, typer.Option("--worker", help="Of this worker: items, interactions, content, …")]
Step = Annotated[str | None, typer.Option(help="Refused at this step: decode, validate, process, …")]
Reason = Annotated[str | None, typer.Option(help="With this in the reason, in any case.")]
Key = Annotated[str | None, typer.Option(help="Of this key: a user's, an item's.")]
Since = Annotated[str | None, typer.Option(help="Failed last at this time or later; ISO 8601, or s since 1970.")]
Until = Annotated[str | None, typer.Option(help="... and before this one.")]
Hours = Annotated[float | None, typer.Option(help="Failed last within these hours.", min=0)]
Attempts = Annotated[int | None, typer.Option(help="Failed at most so often.", min=1)]
At = Annotated[list[str] | None, typer.Option("--at", help="This one, `partition:offset` as shown; repeatable.")]
States = Annotated[list[str] | None, typer.Option("--state", help="open, redriven or dropped. [default: open]")]
Limit = Annotated[int | None, typer.Option(help="No more than so many.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(dlq_app, name="dlq")


@dlq_app.command("list")
def list_(
    topic: Topics = None, worker: Workers = None, step: Step = None, reason: Reason = None, key: Key = None,
    since: Since = None, until: Until = None, hours: Hours = None, attempts: Attempts = None, state: States = None,
    config: Config = None, sets: Set = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Count dead letters by topic, step and reason, with the time of the last one. Digits in reasons count as alike.

    \b
    Examples:
        upwell dlq list
        upwell dlq list --worker interactions --hours 2
        upwell dlq list --state redriven --state dropped --json
    """
    from upwell.cli import dlq_shown

    desk = _desk(config, sets, topic, worker)
    choice = _choice(step, reason, key, since, until, hours, attempts, None, state)
    with exits.mapped("dlq list"):
        counts = dlq_shown.Counts()
        for box in desk.boxes():
            for letter, became in box.letters(desk.settled(box), choice):
                counts.add(box.canonical, became, letter)
    print(json.dumps(counts.as_dict())) if as_json else counts.table()


@dlq_app.command()
def show(
    topic: Topics = None, worker: Workers = None, step: Step = None, reason: Reason = None, key: Key = None,
    since: Since = None, until: Until = None, hours: Hours = None, attempts: Attempts = None, at: At = None,
    state: States = None, limit: Limit = 10,
    full: Annotated[bool, typer.Option("--full", help="Values at any length.")] = False,
    config: Config = None, sets: Set = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show dead letters: where they come from, why they failed, every time, their headers, their value.

    \b
    Examples:
        upwell dlq show --topic interactions --limit 3
        upwell dlq show --key u4711 --state open --state redriven
        upwell dlq show --topic items --at 0:17 --full
    """
    from upwell.cli import dlq_shown

    desk = _desk(config, sets, topic, worker)
    choice = _choice(step, reason, key, since, until, hours, attempts, at, state)
    with exits.mapped("dlq show"):
        found = (
            (box, letter, became) for box in desk.boxes() for letter, became in box.letters(desk.settled(box), choice)
        )
        chosen = list(islice(found, limit))
    if as_json:
        print(json.dumps({"letters": [dlq_shown.as_dict(*one) for one in chosen]}))
        return
    for box, letter, became in chosen:
        dlq_shown.print_letter(box, letter, became, full=full)
    if not chosen:
        print("no dead letters are like that")


@dlq_app.command()
def redrive(
    topic: Topics = None, worker: Workers = None, step: Step = None, reason: Reason = None, key: Key = None,
    since: Since = None, until: Until = None, hours: Hours = None, attempts: Attempts = None, at: At = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Those that were given up as well.")] = False,
    rate: Annotated[float | None, typer.Option(help="Letters a second. [default: as fast as it goes]", min=0.1)] = None,
    limit: Limit = None, dry_run: DryRun = False, config: Config = None, sets: Set = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write open dead letters back to the topic, partition and key that they came from: each once.

    A transaction holds records and the notes that they are settled, so that it may be killed, and started again, at any
    time. A second redrive of a topic takes over from the first. What fails again becomes a dead letter again, with its
    history. Letters of items and rules that have a newer record of their key are left: they would undo it.

    \b
    Examples:
        upwell dlq redrive --topic interactions --reason "no weight" --dry-run
        upwell dlq redrive --topic interactions --reason "no weight" --limit 10
        upwell dlq redrive --worker content --hours 12 --rate 50
    """
    from upwell.bus.letters import State

    desk = _desk(config, sets, topic, worker)
    choice = _choice(step, reason, key, since, until, hours, attempts, at, None)
    if dropped:
        choice = replace(choice, states=choice.states | {State.DROPPED})
    with exits.mapped("dlq redrive"):
        _settle(_Work(desk, choice, "redriven", rate, limit), dry_run=dry_run, as_json=as_json)


@dlq_app.command()
def drop(
    topic: Topics = None, worker: Workers = None, step: Step = None, reason: Reason = None, key: Key = None,
    since: Since = None, until: Until = None, hours: Hours = None, attempts: Attempts = None, at: At = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Only those of items and rules with a newer record of their key.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Needed where nothing is chosen.")] = False,
    limit: Limit = None, dry_run: DryRun = False, config: Config = None, sets: Set = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give dead letters up: they are offered no more, and stay in their topic until they expire.

    `upwell dlq redrive --dropped` takes them nevertheless.

    \b
    Examples:
        upwell dlq drop --topic interactions --step decode --dry-run
        upwell dlq drop --topic items --superseded
    """
    chosen = (topic, worker, step, reason, key, since, until, hours, attempts, at, superseded)
    if not everything and not any(chosen):
        exits.fail(exits.CONFIG, "all dead letters would be dropped: say which, or --all")
    desk = _desk(config, sets, topic, worker)
    choice = _choice(step, reason, key, since, until, hours, attempts, at, None)
    with exits.mapped("dlq drop"):
        work = _Work(desk, choice, "dropped", None, limit, superseded=superseded)
        _settle(work, dry_run=dry_run, as_json=as_json)


@dataclass
class _Desk:
    """The deployment, and which of its dead-letter topics are meant."""

    settings: Settings
    admin: AdminClient
    topics: list[Any]

    def boxes(self) -> Iterator[Box]:
        from upwell.bus.letters import Box

        for canonical in self.topics:
            yield Box.of(self.settings.kafka, self.admin, canonical)

    def settled(self, box: Box) -> Settled:
        from upwell.bus.letters import Settled

        return Settled(self.settings.kafka, self.admin, box.dead)


@dataclass
class _Work:
    """What is to be done, and what has been."""

    desk: _Desk
    choice: Choice
    outcome: str
    rate: float | None
    limit: int | None
    superseded: bool = False
    """Only letters that are."""
    done: dict[str, dict[str, int]] = field(default_factory=dict)

    def left(self) -> int | None:
        """How many more may be settled."""
        return None if self.limit is None else self.limit - sum(one["letters"] for one in self.done.values())


@dataclass
class _Plan:
    """Letters of one topic that are to be settled."""

    box: Box
    superseded: set[Place]
    count: int
    left_out: dict[str, int]


def _settle(work: _Work, *, dry_run: bool, as_json: bool) -> None:
    from upwell.cli.bars import telling
    from upwell.lifecycle import Stop

    stop = Stop()
    try:
        with telling() as tell:
            plans = [_plan(work, box, tell) for box in work.desk.boxes()]
            if not dry_run:
                stop.listen()  # from here on a transaction in hand is finished first
            for plan in plans:
                count = plan.count if (most := work.left()) is None else min(plan.count, most)
                work.done[str(plan.box.canonical)] = {"letters": count if dry_run else 0, **plan.left_out}
                if count and not dry_run and not stop:
                    _one_topic(work, plan, count, stop, tell)
    finally:
        _say(work, dry_run=dry_run, as_json=as_json)
    if stop:
        raise typer.Exit(130)


def _plan(work: _Work, box: Box, tell: Callable[[str, int, int], None]) -> _Plan:
    """Look before anything is written: how many, and which are left out."""
    settled = work.desk.settled(box)
    chosen = (letter for letter, _ in box.letters(settled, work.choice))
    superseded = box.superseded(work.desk.admin, chosen)
    count, left_out = 0, {"superseded": 0, "foreign": 0}
    for letter, _ in box.letters(settled, work.choice):
        why = _left_out(work, letter, superseded)
        if why is None:
            count += 1
        elif why:
            left_out[why] += 1
        tell(f"reading {box.dead}", count, max(count, 1))
    return _Plan(box, superseded, count, left_out)


def _left_out(work: _Work, letter: Letter, superseded: set[Place]) -> str | None:
    """Why a chosen letter is not settled, empty where that is what was asked for; None where it is."""
    if work.superseded:
        return None if letter.place in superseded else ""
    if work.outcome == "dropped":
        return None
    if not letter.own:
        return "foreign"
    return "superseded" if letter.place in superseded else None


def _one_topic(work: _Work, plan: _Plan, count: int, stop: Stop, tell: Callable[[str, int, int], None]) -> None:
    from upwell.bus import clients
    from upwell.bus.letters import State
    from upwell.bus.settling import BATCH, Settler, batches

    box, done = plan.box, work.done[str(plan.box.canonical)]
    consumer = clients.log_reader(box.kafka, "dlq")
    try:
        partitions = len(clients.all_partitions(consumer, box.topic, 0))
    finally:
        consumer.close()
    settler = Settler(box, work.desk.admin, partitions)
    settle = settler.redrive if work.outcome == State.REDRIVEN else settler.drop
    most = BATCH if work.rate is None else max(1, min(BATCH, int(work.rate / 2)))
    began = time.monotonic()
    for batch in batches(islice(_chosen(work, plan, settler), count), most):
        settle(batch)
        done["letters"] += len(batch)
        tell(box.dead, done["letters"], count)
        if work.rate is not None:
            stop.wait(max(0.0, began + done["letters"] / work.rate - time.monotonic()))
        if stop:
            return


def _chosen(work: _Work, plan: _Plan, settler: Settler) -> Iterator[Letter]:
    """Read again after everybody else was locked out: what they have settled since is left out."""
    for letter, _ in plan.box.letters(settler.settled, work.choice):
        if _left_out(work, letter, plan.superseded) is None:
            yield letter


def _say(work: _Work, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"outcome": work.outcome, "dry_run": dry_run, "topics": work.done}))
        return
    reasons = {
        "superseded": "have a newer record of their key: `upwell dlq drop --superseded` gives them up",
        "foreign": "were not written by a worker",
    }
    for topic, done in work.done.items():
        if done["letters"] or not dry_run:
            print(f"{topic}: {done['letters']:,} {'would be ' if dry_run else ''}{work.outcome}")
        for name, why in reasons.items():
            if done[name]:
                print(f"{topic}: {done[name]:,} left, which {why}")
    if not any(any(done.values()) for done in work.done.values()):
        print("no dead letters are like that")


def _desk(config: Path | None, sets: list[str] | None, wanted: list[str] | None, workers: list[str] | None) -> _Desk:
    from upwell.bus import clients, topics
    from upwell.cli.settings import load

    settings = load(config, sets)
    kafka = settings.kafka
    known = topics.DEAD_LETTERED
    by_name = {name: topic for topic in known for name in (str(topic), topics.real(kafka, topic))}
    if unknown := [name for name in wanted or [] if name not in by_name]:
        exits.fail(exits.CONFIG, f"{', '.join(unknown)} has no dead letters: {', '.join(known)} have")
    if unknown := [name for name in workers or [] if name not in known.values()]:
        exits.fail(exits.CONFIG, f"no worker is called {', '.join(unknown)}: {', '.join(sorted(set(known.values())))}")
    chosen = {by_name[name] for name in wanted} if wanted else set(known)
    return _Desk(
        settings,
        clients.admin(kafka),
        [topic for topic, worker in known.items() if topic in chosen and (not workers or worker in workers)],
    )


def _choice(
    step: str | None, reason: str | None, key: str | None, since: str | None, until: str | None, hours: float | None,
    attempts: int | None, at: list[str] | None, states: list[str] | None,
) -> Choice:  # fmt: skip
    from upwell.bus.letters import Choice, Place, State
    from upwell.evaluation.own_data import milliseconds

    try:
        first, last = (None if text is None else milliseconds(text) for text in (since, until))
        places = [Place(*map(int, text.split(":", 1))) for text in at or []]
        wanted = frozenset(State(name) for name in states or ["open"])
    except (ValueError, TypeError) as error:
        exits.fail(exits.CONFIG, f"--since, --until, --at or --state: {error}")
    if hours is not None:
        first = max(first or 0, int((time.time() - 3600 * hours) * 1000))
    return Choice(wanted, step, reason, None if key is None else key.encode(), first, last, attempts, frozenset(places))
