"""`upwell bench redrive`: a redrive of dead letters that is killed on the way, on a stack of its own."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from upwell.cli import exits

FAILED = 1


def redrive(
    letters: Annotated[int, typer.Option(help="How many dead letters.", min=100)] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Redrive dead letters with kill -9 on the way, then twice at once; count what arrives, and what it came to.

    Exit code 1: a letter is missing or doubled, on its topic or in the numbering of the rankings.

    \b
    Examples:
        upwell bench redrive
        upwell bench redrive --letters 1000 --json
    """
    from upwell.evaluation.machine import machine
    from upwell.local.errors import StackError
    from upwell.local.redriving import Plan, Redriving

    about = machine()
    with exits.mapped("bench"):
        try:
            with Redriving(Plan(letters), lambda line: typer.echo(line, err=True)) as run:
                found = run.run().as_dict()
        except StackError as error:
            exits.fail(exits.INFRASTRUCTURE, str(error))
    targets = _targets(found)
    if as_json:
        print(json.dumps({"machine": about, **found, "targets": targets}))
    else:
        for name, value in found.items():
            print(f"{name.replace('_', ' '):<16} {value}")
        for target, reached in targets.items():
            print(f"{'reached' if reached else 'MISSED ':<8} {target}")
    if not all(targets.values()):
        raise typer.Exit(FAILED)


def _targets(found: dict[str, Any]) -> dict[str, bool]:
    """What must be reached, and whether it was."""
    return {
        "each letter arrives once": found["missing"] == found["doubled"] == 0,
        "where it came from": found["moved"] == 0,
        "none is left": found["left_open"] == 0,
        "each event counts once": found["lost"] == found["duplicated"] == 0,
    }
