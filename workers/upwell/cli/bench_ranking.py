"""`upwell bench ranking`: the learned ranking at the size of a large deployment."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from upwell.cli import exits


def ranking(
    users: Annotated[int, typer.Option(help="Of the stream that is made.", min=1)] = 1_000_000,
    items: Annotated[int, typer.Option(help="Candidates of each ranking.", min=1_000)] = 100_000,
    events: Annotated[int, typer.Option(help="Each is ranked for, then learned from.", min=1_000)] = 20_000_000,
    seed: Annotated[int, typer.Option(help="Of the stream.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Replay made events of many users on one core: events a second, memory, and quality against popularity.

    The full size takes about ten minutes and 4 GB.

    \b
    Examples:
        upwell bench ranking --events 1000000 --users 50000 --items 20000
        upwell bench ranking --json
    """
    from rich.console import Console

    from upwell.cli.bars import telling
    from upwell.evaluation.machine import machine
    from upwell.evaluation.scale import Scale, measure

    about = machine()
    with exits.mapped("bench ranking"), telling() as tell:
        found = measure(Scale(users, items, events, seed=seed), tell)
    if as_json:
        print(json.dumps({"machine": about, **found}))
        return
    console = Console(highlight=False)
    console.print(f"{events:,} events of {users:,} users, {items:,} items, on one core of {about['cpu']}")
    console.print(f"{found['events_per_s']:,} events a second, {found['us_per_event']:.1f} us each, "
                  f"{found['us_per_event_last_tenth']} us in the last tenth")  # fmt: skip
    memory = found["memory_mb"]
    console.print(
        f"{memory['peak']:,} MB at most, {memory['events']:,} of them the events; what is learned: {memory['shared']:,}"
    )
    for name, of in (("learned", found["on_sample"]), ("popularity", found["popularity"])):
        if of:
            console.print(
                f"{name:<11} HR@10 {of['hr_at_10']:.4f}  NDCG@10 {of['ndcg_at_10']:.4f}  {of['targets']:,} targets"
            )
