"""An evaluation of what was served in, one HTML file out."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from upwell.evaluation import page, served_variants
from upwell.evaluation.served import PERCENTILES, ServedEvaluation
from upwell.evaluation.served_plots import plots

LARGEST = 12
"""Categories of most exposure that are shown."""


def write(found: ServedEvaluation, path: Path) -> None:
    """Write the report to a file, whose folder is made."""
    compared = [(kind, list(rows)) for kind, rows in groupby(found.groups, key=lambda group: group.kind)]
    shares = found.by_category
    page.write(
        "served_report.html",
        path,
        "upwell evaluate served --report",
        found=found,
        data=found.as_dict(),
        notes=found.notes,
        headlines=headlines(found),
        figures=plots(found),
        compared=compared,
        categories=[
            (shares.names[n], shares.exposure[n], shares.items[n], number(shares.per_item[n]), number(shares.per_consumption[n]))
            for n in np.argsort(-shares.exposure, kind="stable")[:LARGEST]
        ],
        delays=_delays(found),
        variants=served_variants.tables(found.experiment) if found.experiment else [],
        number=number,
    )  # fmt: skip


def _delays(found: ServedEvaluation) -> list[tuple[str, list[str]]]:
    """Names of percentiles, and rows of them."""
    rows = [("since the latest event was taken by the broker", found.delay), ("since its event time", found.staleness)]
    kept = [(title, [duration(value) for value in each.values()]) for title, each in rows if each is not None]
    return [("", [f"p{p}" for p in PERCENTILES]), *kept]


def headlines(found: ServedEvaluation) -> list[tuple[str, str, str]]:
    """Title, value and what it is of."""
    places = found.served.rankings.slate.shape[1]
    targets = f"of {len(found.hits):,} likings of something new"
    cold = float((found.cold >= 0).mean()) if len(found.cold) else float("nan")
    return [
        (f"Hit rate, {places} places", number(found.hr, 3), f"{targets}; {number(cold, 3)} where users are new"),
        ("NDCG", number(found.ndcg, 3), targets),
        ("Coverage", share(found.coverage), f"of {found.served.catalogue:,} items are on a slate"),
        ("Inequality of exposure", number(found.gini), f"Gini; of what is liked {number(found.consumed_gini)}"),
        ("Novelty", f"{number(found.novelty, 1)} bits", f"mean surprise of a place; {share(found.new_share)} hold new items"),
        ("Event to ranking", duration(found.delay["p50"]), f"p99 {duration(found.delay['p99'])}")
        if found.delay else ("Event to ranking", "not measured", "no events"),
    ]  # fmt: skip


def number(value: float, digits: int = 2) -> str:
    """A number for people; a dash for none."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def duration(ms: float) -> str:
    """A time for people, in the unit in which it is a number above 1."""
    for unit, length in (("days", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= length:
            return f"{ms / length:,.1f} {unit}"
    return f"{ms:,.0f} ms"


def share(value: float) -> str:
    return f"{value:.1%}" if np.isfinite(value) else "–"
