"""`upwell demo`: a real event stream on real servers, live at the terminal, verified from outside."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.datasets import Dataset
    from upwell.local.demo import Demo, Plan, Report, Show

EVENTS = 20_000
BEGINNING = 12
"""Interactions of a newcomer."""
SEED = 7
DATASETS = ("movielens", "stamps")
WATCHED_S = 50.0
"""How long the stream is to take where no speed is given."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DIFFERENT = 1
"""Exit code where events were lost or duplicated."""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(rich_help_panel="Local stack")(demo)


def demo(
    events: Annotated[
        int | None, typer.Option(min=1, help=f"So many interactions. [default: {EVENTS}; of your own data, all]")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help=f"Interactions a second, or `max`. [default: so that it takes {WATCHED_S:.0f} s]")
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="movielens, or stamps: pictures, sounds and speech, with users that are made up.")
    ] = "movielens",
    interactions: Annotated[
        Path | None, typer.Option(help="Your own data: CSV with columns user, item, value, timestamp.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Your own items: CSV with columns item, title, categories, and any others.")
    ] = None,
    newcomers: Annotated[
        int | None,
        typer.Option(min=1, help=f"Only the first {BEGINNING} interactions of so many users, drawn by chance."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers and the data of the run for a look.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line; no live panel.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of settings for the workers.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, `group.name=value`; may be repeated.")
    ] = None,
) -> None:
    """Turn a real event stream into re-rankings and texts, on real Kafka, PostgreSQL and Triton on this machine.

    Fetches what is missing, starts servers and workers, publishes MovieLens-100K's films and ratings (or your own
    data), shows what happens, checks from outside that nothing is lost or doubled, and cleans up. Ctrl-C ends it.
    Exit code 1: events were lost or duplicated.

    \b
    Examples:
        upwell demo
        upwell demo --events 100000 --speed max --json
        upwell demo --dataset stamps
        upwell demo --newcomers 160 --speed 3 --keep
        upwell demo --interactions ratings.csv --items films.csv --speed 200
        upwell demo --set ranking.slate=5 --set content.tokens_per_second=300
    """
    from rich.console import Console

    from upwell.cli.panel import Lines, LivePanel

    for number in ENDING:
        signal.signal(number, _interrupt)
    live = not as_json and sys.stdout.isatty() and sys.stdin.isatty()
    console = Console(highlight=False) if live else Console(stderr=True, highlight=False)
    try:
        with LivePanel(console) if live else Lines(console) as show:
            files = (interactions, items)
            plan = _plan(
                show, events, newcomers, speed, dataset, files, keep=keep, watch=live, config=config, sets=sets
            )
            run, report = _run(plan, show)
    except KeyboardInterrupt:
        console.print("\nInterrupted: everything has been stopped and removed.", style="yellow")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(asdict(report)), flush=True)
    else:
        print(summary(plan, report))
    if keep:
        print(_look_around(run), file=sys.stderr if as_json else sys.stdout)
    if report.lost or report.duplicated:
        print("\n".join(["upwell: events were lost or duplicated:", *report.details]), file=sys.stderr)
        raise typer.Exit(DIFFERENT)


def _run(plan: Plan, show: Show) -> tuple[Demo, Report]:
    from upwell.local.demo import Demo, DemoError
    from upwell.local.errors import StackError

    with exits.mapped("demo"):
        try:
            with Demo(plan, show) as run:
                try:
                    report = run.run()
                finally:
                    # A second Ctrl-C must not leave anything running: ending takes seconds and has its own limits.
                    for number in ENDING:
                        signal.signal(number, signal.SIG_IGN)
                    show.say("ending")
            return run, report
        except (DemoError, StackError) as error:
            exits.fail(exits.INFRASTRUCTURE, str(error))
        except KeyboardInterrupt:
            pass  # said below, after the panel has given the terminal back
        finally:
            for number in ENDING:
                signal.signal(number, _interrupt)
    raise KeyboardInterrupt


def _plan(
    show: Show,
    events: int | None,
    newcomers: int | None,
    speed: str | None,
    dataset: str,
    files: tuple[Path | None, Path | None],
    *,
    keep: bool,
    watch: bool,
    config: Path | None,
    sets: list[str] | None,
) -> Plan:
    """Everything that can be wrong with the command is found here, before anything is started."""
    from upwell.cli.settings import load
    from upwell.evaluation.datasets import DatasetError, movielens
    from upwell.evaluation.own_data import own_data
    from upwell.evaluation.stamps import stamps
    from upwell.local.demo import Plan

    def part(all_: Dataset, otherwise: int | None = None) -> Dataset:
        return (
            all_.beginnings(newcomers, BEGINNING, SEED).first(events) if newcomers else all_.first(events or otherwise)
        )

    interactions, items = files
    rate = _speed(speed)
    load(config, sets)
    given = dict(text.split("=", 1) for text in sets or [])
    if dataset not in DATASETS:
        exits.fail(exits.CONFIG, f"no data set is called {dataset}: {' or '.join(DATASETS)}")
    if items is not None and interactions is None:
        exits.fail(exits.CONFIG, "--items needs --interactions: what happened to those items?")
    try:
        data: Dataset
        if interactions is not None:
            data = part(own_data(interactions, items))
            _fetch(show)
        elif dataset == "stamps":
            folder = _fetch_stamps(show)
            data = part(stamps(folder))
            # Their media are files of this machine, which no worker reads unless it is told that it may.
            given.setdefault("media.roots", json.dumps([str(folder)]))
            given.setdefault("items.modalities", json.dumps(["text", "image", "audio", "speech"]))
            given.setdefault("content.formats", json.dumps(["text", "poster", "speech", "clip"]))
        else:
            data = part(movielens(_fetch(show)), EVENTS)
    except DatasetError as error:
        exits.fail(exits.CONFIG, str(error))
    for note in data.notes:
        show.say(note)
    for line in data.refused[:5]:
        show.say(f"refused: {line}")
    if len(data.refused) > 5:
        show.say(f"refused: {len(data.refused) - 5:,} more rows")
    if speed is None:
        rate = max(1.0, len(data.interactions) / WATCHED_S)
    return Plan(data, rate, keep=keep, watch=watch, config=config, sets=given)


def _fetch(show: Show) -> Path:
    """What the demo stands on, fetched where it is missing; returns the folder of weights and data."""
    from upwell.local import assets
    from upwell.local.errors import StackError
    from upwell.local.paths import default_cache, models_dir

    cache = default_cache()
    try:
        data = assets.fetch_weights(cache, show.say, media=False)
        assets.prepare_models(cache, models_dir(cache), show.say, media=False)
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))
    return data


def _fetch_stamps(show: Show) -> Path:
    """The stamps and the models that read them, fetched where they are missing; returns the catalogue's folder."""
    from upwell.local import assets, debian
    from upwell.local.errors import StackError
    from upwell.local.paths import default_cache, models_dir

    cache = default_cache()
    try:
        assets.fetch_weights(cache, show.say)
        assets.prepare_models(cache, models_dir(cache), show.say)
        return debian.fetch_package(cache, show.say)
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))


def _speed(text: str | None) -> float | None:
    if text is None or text == "max":
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        exits.fail(exits.CONFIG, f"--speed {text}: a number of interactions a second above 0, or `max`")
    return found


def _interrupt(number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt(number)


def summary(plan: Plan, report: Report) -> str:
    """What the run came to, for people, and what to try next."""
    p50, p99 = report.latency_ms["p50"], report.latency_ms["p99"]
    sources = report.contents_by_source
    share = f", {100 * sources.get('model', 0) // report.contents}% by the model" if report.contents else ""
    skipped = max(0, report.triggers - report.contents)
    lines = [
        "",
        f"{plan.dataset.name}: {report.events:,} events in {report.seconds:.1f} s ({report.events_per_second:,.0f}/s)",
        f"  lost {report.lost}, duplicated {report.duplicated}   (all rankings, and Postgres, against a count of the input)",
        f"  event to ranking: p50 {p50:,.0f} ms, p99 {p99:,.0f} ms" if p50 is not None and p99 is not None else "",
        f"  {report.rankings:,} rankings for {report.users:,} users, {report.items:,} items",
        f"  {report.contents:,} texts{share}; {skipped:,} occasions skipped to keep up",
        f"  {report.rejected:,} of {report.candidates:,} candidate texts refused by the check",
    ]
    if media := {name: count for name, count in report.contents_by_format.items() if name != "text"}:
        told = ", ".join(f"{count:,} as {name}" for name, count in sorted(media.items()))
        lines.append(f"  of the texts {told}{'' if plan.keep else ' (`--keep` leaves them for a look)'}")
    if report.dead_letters:
        lines.append(f"  {report.dead_letters:,} records in the dead letters")
    if report.repeats:
        lines.append(f"  {report.repeats:,} records repeated an event and were dropped")
    if report.unread_rows:
        lines.append(f"  {report.unread_rows:,} rows of the files were refused")
    if report.restarts:
        lines.append("  restarted: " + ", ".join(f"{name} {count} times" for name, count in report.restarts.items()))
    lines += [
        "",
        "Try next:",
        "  upwell demo --events 100000 --speed max             all of it, as fast as it goes",
        "  upwell demo --dataset stamps                        pictures, sounds and speech, in and out",
        "  upwell demo --keep                                  leaves servers, topics and tables for a look",
        "  upwell demo --interactions my.csv --items items.csv your own data",
        "  upwell config                                       every setting; any goes into `--set`",
    ]
    return "\n".join(line for line in lines if line or line == "")


def _look_around(run: Demo) -> str:
    """How to reach what `--keep` left."""
    file = run.stack.home / "demo.env"
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in run.environment().items()))
    file.chmod(0o600)
    home = shlex.quote(str(run.stack.home))
    return "\n".join(
        [
            "",
            "The servers go on, with this run's topics and tables:",
            f"  . {shlex.quote(str(file))}          # then `upwell worker interactions` and the like work on them",
            f"  upwell status --home {home}",
            f"  upwell down --home {home} --wipe    # when you are done",
        ]
    )
