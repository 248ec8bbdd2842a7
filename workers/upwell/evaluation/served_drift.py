"""Rankings, events and hits in log order in; whether scores, tastes or the hit rate have moved, out. Pure.

The first third of the time is left to warm up, the second one is the reference, and the last one is compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.served_log import Happened, Ints, Rankings
from upwell.ranking import drift as detection
from upwell.ranking.drift import Rate

BINS: Final = 10
LEAST: Final = 200
"""Of each of reference and present, or nothing is said."""
TARGETS: Final = 2_000
"""What the watch of the hit rate learns from before it judges."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A distribution now against one before."""

    what: str
    index: float
    """Population stability index."""
    chance: float
    """What it exceeds once in a thousand times where nothing moved."""
    shifted: bool


@dataclass(frozen=True, slots=True)
class Drift:
    shifts: list[Shift]
    moves: list[tuple[int, int]]
    """Log time of the target at which a move of the hit rate was noticed, ms, and 1 for up or -1 for down."""
    lacking: list[str]
    """What could not be watched, and why."""

    @property
    def alarms(self) -> list[str]:
        """A hit rate that rises is none."""
        found = [f"{s.what} shifted: stability index {s.index:.2f}" for s in self.shifts if s.shifted]
        falls = sum(moved < 0 for _, moved in self.moves)
        return found + ([f"the hit rate fell {falls} times" if falls > 1 else "the hit rate fell"] if falls else [])

    def as_dict(self) -> dict[str, Any]:
        return {
            "shifts": [
                {"what": s.what, "index": round(s.index, 4), "chance": round(s.chance, 4), "alarm": s.shifted}
                for s in self.shifts
            ],
            "hit_rate_moves": [{"time": time, "direction": "up" if up > 0 else "down"} for time, up in self.moves],
            "not_measured": self.lacking,
        }


def drift(rankings: Rankings, events: Happened, hits: Ints, at: Ints) -> Drift:
    """Watch all three.

    Args:
        hits: [t] places of targets on slates, -1 where on none; `at` [t] their log times, ascending.
    """
    shifts, lacking = [], []
    for what, found in (("scores of first places", _scores(rankings)), ("what people take", _taken(events))):
        if found is None:
            lacking.append(f"{what}: fewer than {LEAST} in a third")
        else:
            shifts.append(
                Shift(
                    what, detection.stability(*found), detection.chance_level(*found), bool(detection.shifted(*found))
                )
            )
    if len(hits) < TARGETS:
        lacking.append(f"hit rate: fewer than {TARGETS:,} targets")
    return Drift(shifts, moves(hits, at), lacking)


def moves(hits: Ints, at: Ints) -> list[tuple[int, int]]:
    """Where Page and Hinkley's test notices that the hit rate has moved: log time, and 1 or -1."""
    watch = Rate()
    return [
        (time, moved) for time, hit in zip(at.tolist(), (hits >= 0).tolist(), strict=True) if (moved := watch.add(hit))
    ]


def _scores(rankings: Rankings) -> tuple[Ints, Ints] | None:
    best = rankings.best[rankings.earlier :]
    best = best[np.isfinite(best)]
    third = len(best) // 3
    if third < LEAST:
        return None
    inner = detection.edges(best[third : 2 * third], BINS)
    return detection.counts(best[third : 2 * third], inner), detection.counts(best[2 * third :], inner)


def _taken(events: Happened) -> tuple[Ints, Ints] | None:
    """Events by how popular their item was in the first third: a tenth of that third's events in each bin."""
    took = np.flatnonzero(events.liked & (events.item >= 0))
    third = len(took) // 3
    if third < LEAST:
        return None
    size = int(events.item[took].max()) + 1
    popularity: NDArray[np.float64] = np.bincount(events.item[took[:third]], minlength=size).astype(np.float64)
    inner = detection.edges(popularity[events.item[took[:third]]], BINS)
    middle, last = took[third : 2 * third], took[2 * third :]
    return (
        detection.counts(popularity[events.item[middle]], inner),
        detection.counts(popularity[events.item[last]], inner),
    )
