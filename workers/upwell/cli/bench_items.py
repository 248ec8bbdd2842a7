"""`upwell bench items`: thousands of items at once, while interactions flow, on a stack of its own."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from upwell.cli import exits

FAILED = 1
LEAST_RATIO = 0.75
"""Of the encoder's own speed: decoding and storing go on beside it, but on the same cores."""
MOST_GROWTH_MB = 512
MOST_SLOWER = 3.0
MOST_SLOWER_MS = 100.0
"""p50 during the flood may be so many times what it was before, or so many ms more."""


def items(
    count: Annotated[int, typer.Option("--items", help="How many items arrive at once.", min=64)] = 10_000,
    rate: Annotated[float, typer.Option(help="Interactions a second that flow meanwhile.", min=1)] = 50.0,
    quiet: Annotated[float, typer.Option(help="Seconds that only they flow, before.", min=1)] = 20.0,
    rounds: Annotated[int, typer.Option(help="Comparisons with the encoder alone; their median counts.", min=1)] = 3,
    round_items: Annotated[int, typer.Option(help="Items of each.", min=64)] = 2_048,
    seed: Annotated[int, typer.Option(help="Of the items that are made.")] = 1,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting of the workers, name=value.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Flood a local Upwell with items of text and picture: items a second beside the encoder's own, memory, latency.

    Exit code 1: the way costs more than a quarter of the encoder's speed, the items worker's memory grows by more than
    512 MB, or rankings get late.

    \b
    Examples:
        upwell bench items
        upwell bench items --items 2000 --json
        upwell bench items --set media.decoders=2
    """
    from upwell.cli.settings import load
    from upwell.evaluation.machine import machine
    from upwell.local.errors import StackError
    from upwell.local.flood import Flood, Plan

    load(None, sets)  # a wrong one is said before anything starts
    about = machine()
    plan = Plan(count, rate, quiet, rounds, round_items, seed, dict(text.split("=", 1) for text in sets or []))
    with exits.mapped("bench"):
        try:
            with Flood(plan, lambda line: typer.echo(line, err=True)) as flood:
                found = flood.run().as_dict()
        except StackError as error:
            exits.fail(exits.INFRASTRUCTURE, str(error))
    targets = _targets(found)
    if as_json:
        print(json.dumps({"machine": about, **found, "targets": targets}))
    else:
        _table(found, targets, about)
    if not all(targets.values()):
        raise typer.Exit(FAILED)


def _targets(found: dict[str, Any]) -> dict[str, bool]:
    """What should be reached, and whether it was."""
    before, during = found["latency_ms"]["before"]["p50"], found["latency_ms"]["during"]["p50"]
    grown = sum(found[part]["peak"] - found[part]["before"] for part in ("worker_mb", "decoder_mb"))
    return {
        "every item has features": found["features"] == found["items"],
        "every event has a ranking": found["unranked"] == 0,
        f"items/s >= {LEAST_RATIO} x the encoder alone": found["ratio"] >= LEAST_RATIO,
        f"memory grows by at most {MOST_GROWTH_MB} MB": grown <= MOST_GROWTH_MB,
        "rankings keep their latency (p50)": during <= max(MOST_SLOWER * before, before + MOST_SLOWER_MS),
    }


def _table(found: dict[str, Any], targets: dict[str, bool], about: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "before", "during", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    latency = found["latency_ms"]
    table.add_row("event to ranking, p50 ms", *(f"{latency[when]['p50']:,.0f}" for when in ("before", "during")))
    table.add_row("event to ranking, p99 ms", *(f"{latency[when]['p99']:,.0f}" for when in ("before", "during")))
    table.add_row(
        "items worker, MB", f"{found['worker_mb']['before']:,.0f}", f"{found['worker_mb']['peak']:,.0f} at most"
    )
    table.add_row(
        "its decoder, MB", f"{found['decoder_mb']['before']:,.0f}", f"{found['decoder_mb']['peak']:,.0f} at most"
    )
    console = Console(highlight=False, soft_wrap=True)
    compared = ", ".join(f"{one['whole']:,.1f} / {one['encoder']:,.1f}" for one in found["rounds"])
    console.print(
        f"{found['items']:,} items in {found['seconds']:,.0f} s: {found['items_per_s']:,.1f} a second. Beside the encoder"
        f" alone: {compared}; ratio {found['ratio']:.2f}"
    )
    console.print(table)
    console.print(f"{about['cpu']}, {about['cores']} cores, load {about['load']}")
    for target, reached in targets.items():
        console.print(f"{'reached' if reached else 'MISSED ':<8} {target}", markup=False)
