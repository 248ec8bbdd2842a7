"""An evaluation of rankings in, one HTML file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from upwell.evaluation import page
from upwell.evaluation.ranking import RankingEvaluation
from upwell.evaluation.ranking_plots import best_peer, plots


def write(found: RankingEvaluation, path: Path) -> None:
    """Write the report to a file, whose folder is made."""
    shown = found.as_dict()
    page.write(
        "ranking_report.html",
        path,
        "upwell evaluate ranking --report",
        data=shown,
        notes=shown["notes"],
        headlines=headlines(shown),
        figures=plots(found, shown),
        rows=rows(shown),
        number=number,
    )


def headlines(shown: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Title, value and what it is of."""
    peer = best_peer(shown)
    beside = f"{peer.replace('_', ' ')}: {number(shown['peers'][peer]['hr_at_10'])}" if peer else "no peer was run"
    return [
        ("Hit rate, 10 places", number(shown["hr_at_10"]), f"of {shown['targets']:,} targets; {beside}"),
        ("NDCG", number(shown["ndcg_at_10"]), f"10 places; MAP {number(shown['map'])}, MRR {number(shown['mrr'])}"),
        (
            "Hit rate of cold users",
            number(shown["cold"]["hr_at_10"]),
            f"in their first five events; later {number(shown['warm']['hr_at_10'])}",
        ),
        ("Coverage", number(shown["coverage"]), "of the candidates were on a slate"),
        (
            "Novelty",
            f"{number(shown['novelty_bits'], 1)} bits",
            f"mean surprise of a place; diversity {number(shown['diversity'], 2)}",
        ),
        ("An event", f"{shown['us_per_event']:.1f} us", "processor time to rank for it and learn from it"),
    ]


def rows(shown: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """Name, figures, and whether a new group of rows begins with it."""
    first, second = shown["halves"]
    found = [
        (shown["dataset"], shown, True),
        ("first half", first, False),
        ("second half", second, False),
        ("first five events of a user", shown["cold"], False),
        ("later events", shown["warm"], False),
        ("without users' first events", shown["with_history"], False),
    ]
    for group, prefix in (("peers", ""), ("ablation", "without ")):
        for at, (name, of) in enumerate(shown.get(group, {}).items()):
            found.append((f"{prefix}{name.replace('_', ' ')}", of, at == 0))
    if "oracle" in shown:
        found.append(("oracle", shown["oracle"], True))
    if "through_stack" in shown:
        found += [
            ("through the stack", shown["through_stack"], True),
            ("the replay on the same targets", shown["through_stack"]["replay"], False),
        ]
    return found


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"
