"""`upwell evaluate …`: how good contents and rankings are."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwell.cli import evaluate_exploration, evaluate_policy, evaluate_ranking, evaluate_served, exits

if TYPE_CHECKING:
    from upwell.evaluation.content import Evaluation

evaluate_app = typer.Typer(help="Judge contents and rankings.", no_args_is_help=True)

NEEDED = ("jinja2", "matplotlib", "nltk", "rouge_score", "sacrebleu", "skimage", "sklearn")
"""Libraries of the extra `evaluation`."""


def register(app: typer.Typer) -> None:
    """Add `upwell evaluate` to an app."""
    evaluate_app.command()(evaluate_exploration.exploration)
    evaluate_app.command()(evaluate_policy.policy)
    evaluate_app.command()(evaluate_policy.estimators)
    evaluate_app.command()(evaluate_ranking.ranking)
    evaluate_app.command()(evaluate_served.served)
    app.add_typer(evaluate_app, name="evaluate")


@evaluate_app.callback()
def evaluate() -> None:
    """Judge contents and rankings."""


@evaluate_app.command()
def content(
    limit: Annotated[int, typer.Option(help="Latest contents to look at, unpicked.", min=1)] = 1_000,
    media: Annotated[int, typer.Option(help="... and of each format of media.", min=1)] = 100,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    gallery: Annotated[int, typer.Option(help="Contents of each format to show in the report.", min=0)] = 8,
    references: Annotated[
        Path | None, typer.Option(help="JSON lines with `text`, and `item_id` or `content_id`. [default: the template]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the pairs of users, and what the gallery shows.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Last line: one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
) -> None:
    """Measure the texts, posters and speech that a running deployment published: quality, facts, persons, safety.

    Reads the topic `contents`, Postgres, the media store and the models on Triton; changes nothing. What the deployment
    lacks is reported as not measured.

    \b
    Examples:
        upwell evaluate content --config upwell.toml
        upwell evaluate content --limit 200 --report report.html --json
        upwell evaluate content --references editors.jsonl --set media.store=s3://bucket/media
    """
    from upwell.cli.settings import load

    settings = load(config, sets)
    with exits.mapped("evaluate content"):
        if lacking := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
            exits.fail(exits.CONFIG, f"{', '.join(lacking)} missing: pip install 'upwell[evaluation]'")
        from upwell.evaluation import content as judge
        from upwell.evaluation import content_report

        plan = judge.Plan(limit, media, seed, references)
        found = judge.evaluate(settings, plan, lambda line: print(line, file=sys.stderr, flush=True))
        if report is not None:
            content_report.write(found, report, gallery)
            print(f"report: {report}", file=sys.stderr)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        _table(found)


def _table(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from upwell.evaluation.content_report import shown

    table = Table("", "value", "95% interval", "of", "", box=None, pad_edge=False)
    group = ""
    for measure in found.measures.values():
        if measure.about.group != group:
            group = measure.about.group
            table.add_row(f"[bold]{group}[/]")
        value, interval = shown(measure)
        reached = {True: "reached", False: "MISSED", None: ""}[measure.reached]
        table.add_row(f"  {measure.about.title}", value, interval, str(measure.n or ""), measure.lacking or reached)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"References: {found.references}", markup=False)
    for each in found.groups:
        if each.alarm:
            line = f"ALARM {each.kind} {each.name}: {each.rate} {each.hits}/{each.n}, others {each.others:.0%}"
            console.print(line, markup=False)
    for note in found.notes:
        console.print(note, markup=False)
