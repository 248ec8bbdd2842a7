"""The `upwell` command. Heavy imports happen inside commands, so that `upwell --help` answers at once."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from upwell import __version__
from upwell.cli import exits

app = typer.Typer(
    name="upwell",
    help="Event-driven streaming recommender: interactions and items in, re-rankings and content out, exactly once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="Topics that Upwell reads and writes.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")

for module in ("stack", "demo", "ask", "verify", "models", "rules", "dlq", "media", "train", "bench", "evaluate"):
    importlib.import_module(f"upwell.cli.{module}").register(app)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`; may be repeated.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def worker(
    name: Annotated[str, typer.Argument(help="items, interactions, content or trends.")],
    slot: Annotated[int, typer.Option(help="This worker's place in its group: 0, 1, …; each runs once.", min=0)] = 0,
    config: Config = None,
    sets: Set = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Run one worker until it is told to stop.

    SIGTERM finishes the batch in hand, commits and ends; a second one stops at once. Its place in the group is kept for
    kafka.session_timeout_ms: started again within it, the slot goes on; after it, the other slots take its partitions.

    \b
    Examples:
        upwell worker interactions --config upwell.toml
        upwell worker content --slot 1 --log-format json --set content.tokens_per_second=400
    """
    # OpenBLAS's threads spin between the small products of a batch: half a processor for nothing. Before numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from upwell.cli.settings import load
    from upwell.lifecycle import Stop
    from upwell.store import database
    from upwell.telemetry import logs, metrics

    if name not in {"items", "interactions", "content", "trends"}:
        exits.fail(exits.CONFIG, f"no worker is called {name}: items, interactions, content or trends")
    settings = load(config, sets, {"telemetry.log_format": log_format} if log_format else None)
    logs.configure(settings.telemetry, worker=name, slot=slot)
    module = importlib.import_module(f"upwell.{name}.worker")
    with exits.mapped(name):
        database.check(settings.postgres)  # before Kafka is waited for
        port = metrics.serve(settings.telemetry)
        module.run(settings, slot, Stop().listen(), metrics_port=port)


@app.command()
def config(
    config: Config = None,
    sets: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print the effective settings, secrets hidden.

    \b
    Examples:
        upwell config
        upwell config --json --set ranking.slate=20
    """
    from upwell.cli.settings import load, printable, toml

    settings = load(config, sets)
    print(json.dumps(printable(settings)) if as_json else toml(settings))


@app.command()
def migrate(config: Config = None, sets: Set = None) -> None:
    """Bring the database's schema up to date, under a lock: safe to run from many places at once."""
    from upwell.cli.settings import load
    from upwell.store import migrations

    settings = load(config, sets)
    with exits.mapped("migrate"):
        done = migrations.migrate(settings.postgres)
    print("\n".join(f"applied {name}" for name in done) or "nothing to do")


@topics_app.command("create")
def topics_create(config: Config = None, sets: Set = None) -> None:
    """Create the topics that are missing, dead-letter topics included."""
    from upwell.bus import clients, topics
    from upwell.cli.settings import load

    settings = load(config, sets)
    with exits.mapped("topics create"):
        created = topics.create(settings.kafka, clients.admin(settings.kafka))
    print("\n".join(f"created {name}" for name in created) or "nothing to do")


def main() -> None:
    """Entry point: exit codes tell configuration errors (2) from infrastructure failures (3) and bugs (70)."""
    app()


if __name__ == "__main__":
    main()
