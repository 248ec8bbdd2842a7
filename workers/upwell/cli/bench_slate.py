"""`upwell bench slate`: what the steps from scored candidates to a slate with reasons cost."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

FAILED = 1
MOST_US = 20.0
"""Of a diverse slate of 10 out of 100 candidates with vectors of 384 numbers."""


def slate(
    items: Annotated[int, typer.Option(help="Of the catalogue that is made.", min=600)] = 20_000,
    width: Annotated[int, typer.Option(help="Of the vectors.", min=2)] = 384,
    candidates: Annotated[int, typer.Option(help="Of each slate.", min=1)] = 100,
    places: Annotated[int, typer.Option(help="Of each slate.", min=1)] = 10,
    rounds: Annotated[int, typer.Option(help="Measurements of each step.", min=1)] = 40,
    seed: Annotated[int, typer.Option(help="Of the catalogue and the candidates.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Time rules, diversity, caps, calibration and reasons, in microseconds a slate. No server is needed.

    Exit code 1: a diverse slate by MMR or DPP takes more than 20 microseconds at the least.

    \b
    Examples:
        upwell bench slate
        upwell bench slate --candidates 500 --json
    """
    # Before numpy loads: a slate is one thread's work.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = "1"
    from rich.console import Console
    from rich.table import Table

    from upwell.evaluation.machine import machine
    from upwell.evaluation.slate_bench import Size, measure

    about = machine()
    size = Size(items, width, candidates, places, seed=seed)
    found = measure(size, rounds, lambda name: typer.echo(name, err=True))
    diverse = [
        step for step in found if step["step"].startswith(("slate, MMR", "slate, DPP")) and "cal" not in step["step"]
    ]
    met = all(step["us_least"] <= MOST_US for step in diverse)
    if as_json:
        print(json.dumps({"machine": about, "steps": found, "targets": {"diverse_slate_20_us": met}}))
    else:
        table = Table(
            title=f"{candidates} candidates, {width} numbers each, {places} places: microseconds of CPU a slate"
        )
        table.add_column("step")
        table.add_column("least", justify="right")
        table.add_column("median", justify="right")
        for step in found:
            table.add_row(step["step"], f"{step['us_least']:.1f}", f"{step['us_median']:.1f}")
        Console().print(table)
    if not met:
        raise typer.Exit(FAILED)
