"""`upwell evaluate served`: what a running deployment ranked, and what came of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.served import ServedEvaluation

ALARMED = 1


def served(
    last: Annotated[int, typer.Option(help="Latest events, and latest rankings, to look at.", min=1)] = 200_000,
    hours: Annotated[
        float | None, typer.Option(help="Only what the broker took in these last hours. [default: all]", min=0)
    ] = None,
    group_by: Annotated[
        list[str] | None, typer.Option(help="A key of events' `context` to group users by; may be repeated.")
    ] = None,
    window: Annotated[
        float, typer.Option(help="Experiments: watch users for so many hours after their first ranking.", min=0)
    ] = 168,
    planned: Annotated[
        int, typer.Option(help="Experiments: users of each variant that were planned with.", min=100)
    ] = 10_000,
    tolerance: Annotated[
        float,
        typer.Option(help="A group of users surely worse off by more than this part raises an alarm.", min=0, max=1),
    ] = 0.2,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 where there is an alarm.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Last line: one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
) -> None:
    """Judge the rankings that a running deployment published by what its users did next.

    Hit rate and NDCG over time, taken by position, who gets how much exposure, quality by user group, drift, variants of
    an experiment, reasons, delay. Reads the topics `rankings`, `interactions` and `item-features`; changes nothing.

    \b
    Examples:
        upwell evaluate served --config upwell.toml --report served.html
        upwell evaluate served --hours 24 --group-by country --group-by age --json
        upwell evaluate served --check --hours 1
    """
    from upwell.cli.settings import load

    settings = load(config, sets)
    with exits.mapped("evaluate served"):
        needed = ("jinja2", "matplotlib") if report is not None else ()
        if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
            exits.fail(exits.CONFIG, f"{', '.join(lacking)} missing: pip install 'upwell[evaluation]'")
        import time

        from upwell.evaluation import served as judge
        from upwell.evaluation import served_log
        from upwell.evaluation.recorded import Stretch

        since = None if hours is None else int((time.time() - 3600 * hours) * 1000)
        _say("reading the topics")
        read = served_log.read(settings, Stretch(since, None, last), group_by or [])
        count = len(read.rankings.user) - read.rankings.earlier
        _say(f"{count:,} rankings, {len(read.events.user):,} events")
        if not count:
            exits.fail(exits.CONFIG, "there are no rankings in this stretch")
        shares = {variant.name: variant.share for variant in settings.experiment.variants}
        found = judge.evaluate(read, judge.Plan(3600 * window, planned, shares, tolerance))
        if report is not None:
            from upwell.evaluation import served_report

            served_report.write(found, report)
            _say(f"report: {report}")
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        _tables(found)
    if check and found.alarms:
        raise typer.Exit(ALARMED)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tables(found: ServedEvaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from upwell.cli.tables import whole
    from upwell.evaluation import served_variants
    from upwell.evaluation.served_report import headlines, number

    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for title, value, of in headlines(found):
        table.add_row(title, value, of)
    whole(table)
    if found.groups:
        table = Table("hit rate of", "", "mean", "to the others", "interval", "users", box=None, pad_edge=False)
        for group in found.groups:
            own = group.quality
            interval = f"{number(own.gap_low, 3)} to {number(own.gap_high, 3)}"
            table.add_row(group.kind, group.name, number(own.mean, 3), number(own.gap, 3), interval, f"{own.users:,}")
        console.print()
        whole(table)
    for title, (head, *rows) in served_variants.tables(found.experiment) if found.experiment else []:
        table = Table(title, *head[1:], box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print()
        whole(table)
    console.print()
    for sentence in found.experiment["in_words"] if found.experiment else []:
        console.print(sentence, markup=False)
    for alarm in found.alarms:
        console.print(f"ALARM {alarm}", markup=False)
    for note in [*found.notes, *found.drift.lacking]:
        console.print(note, markup=False)
