"""`upwell evaluate exploration`: what a budget of exploration costs and finds, in a catalogue that changes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from upwell.cli import exits


def exploration(
    share: Annotated[float, typer.Option(help="Of slates that are explored.", min=0, max=1)] = 0.2,
    positions: Annotated[int, typer.Option(help="Their last positions that are drawn.", min=1, max=3)] = 2,
    floor: Annotated[float, typer.Option(help="Share of them drawn uniformly.", min=0.001, max=1)] = 0.1,
    runs: Annotated[int, typer.Option(help="Runs of each way, with a catalogue of its own.", min=2)] = 4,
    seed: Annotated[int, typer.Option(help="Of catalogues and users.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare no exploration, uniform exploration and Thompson sampling where items come and go: likes, cost, items found.

    Items, users and likes are made up; slates, propensities and draws are the product's own. Two rankings learn from
    what is shown: a cautious one, which starts items at nothing, and one that starts them at the mean.

    \b
    Examples:
        upwell evaluate exploration
        upwell evaluate exploration --share 0.1 --positions 1 --json
    """
    from upwell.cli.bench import ticking
    from upwell.evaluation.exploration_world import compare, microseconds
    from upwell.ranking.exploration import Budget

    budget = Budget(share, positions, floor)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with exits.mapped("evaluate exploration"), ticking(2) as tick:
        for ranking, cautious in (("cautious", True), ("open-minded", False)):
            tick(ranking)
            found[ranking] = compare(budget, cautious, runs, seed)
        took = microseconds(budget)
    if as_json:
        asked = {"share": share, "positions": positions, "floor": floor, "runs": runs, "seed": seed}
        print(json.dumps({**asked, "rankings": found, "us_per_slate": took}))
    else:
        _table(found, took)


def _table(found: dict[str, dict[str, dict[str, Any]]], took: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from upwell.cli.tables import whole

    table = Table(
        "ranking",
        "exploration",
        "likes per slate",
        "against none",
        "an explored slate loses",
        "best items known",
        box=None,
    )
    for ranking, ways in found.items():
        for way, each in ways.items():
            table.add_row(
                ranking, way, f"{each['likes']:.3f} ± {each['likes_error']:.3f}",
                "" if way == "none" else f"{each['gain']:+.1%} ± {each['gain_error']:.1%}",
                "" if way == "none" else f"{each['cost']:.3f} ± {each['cost_error']:.3f}",
                f"{each['found']:.0%} ± {each['found_error']:.0%}",
            )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    whole(table)
    console.print(f"{took:.2f} us a slate, from its pool to its propensities, in batches of 1,000")
