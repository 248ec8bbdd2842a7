"""Made candidates in; microseconds of every step from scored candidates to a slate with its reasons out.

The catalogue is made with a seed: vectors in clusters, some categories and facts each, scores whose spread is Gumbel's,
as that of a softmax's candidates. CPU time of this thread alone, so that what else the machine does costs little of it;
caches are shared all the same, so the least of many rounds is told beside the median.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from upwell.events.contracts import Fact, Rule
from upwell.ranking.groups import Groups
from upwell.ranking.knowledge import Knowledge
from upwell.ranking.profile import unit
from upwell.ranking.reasons import DAY, NOBODY, Kind, reasons, worded
from upwell.ranking.rules import Book, admitted
from upwell.ranking.slate import Shape, slate

CATEGORIES: Final = 19
CLUSTERS: Final = 30
SCORERS: Final = (
    Kind.SIMILAR,
    Kind.SIMILAR,
    Kind.SIMILAR,
    Kind.TASTE,
    Kind.TASTE,
    Kind.POPULAR,
    Kind.POPULAR,
    Kind.NEW,
)
NOW: Final = 1_700_000_000_000
CALLS: Final = 200
"""Different users of one round."""


@dataclass(frozen=True)
class Size:
    """What one call has to do."""

    items: int = 20_000
    width: int = 384
    candidates: int = 100
    places: int = 10
    history: int = 200
    """Events that the user's consumed and shown items are looked for in, each."""
    seed: int = 1


def measure(size: Size, rounds: int, tick: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Time every step.

    Returns:
        Of each step its name, `us_least` and `us_median` over the rounds, microseconds a call.
    """
    return [_timed(name, call, rounds, tick) for name, call in _steps(size).items()]


def _timed(name: str, call: Callable[[int], Any], rounds: int, tick: Callable[[str], None]) -> dict[str, Any]:
    tick(name)
    call(0)  # compiles
    taken = []
    for _ in range(rounds):
        begin = time.thread_time_ns()
        for user in range(CALLS):
            call(user)
        taken.append((time.thread_time_ns() - begin) / 1000 / CALLS)
    return {"step": name, "us_least": round(min(taken), 1), "us_median": round(float(np.median(taken)), 1)}


def _steps(size: Size) -> dict[str, Callable[[int], Any]]:
    rng = np.random.default_rng(size.seed)
    centres = rng.normal(size=(CLUSTERS, size.width))
    vectors = unit(
        (centres[rng.integers(0, CLUSTERS, size.items)] + rng.normal(size=(size.items, size.width))).astype(np.float32)
    )
    ties = rng.permutation(size.items).astype(np.uint64)
    named = [[f"c{c}" for c in rng.choice(CATEGORIES, rng.integers(1, 4), replace=False)] for _ in range(size.items)]
    categories = Groups.of(named)
    triples = [(row, f"p{p}", f"o{o}") for row in range(size.items) for p, o in rng.integers(0, [8, 500], (10, 2))]
    knowledge = Knowledge(triples, size.items)
    rules = [
        Rule("a", "block", categories=["c0"], items=[str(row) for row in range(500)]),
        Rule("b", "boost", facts=[Fact("p1", "o1")], amount=0.2),
        Rule("c", "cap", per="category", most=3),
        Rule("d", "frequency", most=3, window_s=86_400),
        Rule("e", "repeat", categories=["c1"], window_s=86_400),
        Rule("f", "available", items=["501", "502"], until=NOW + DAY),
    ]
    book = Book(rules, {str(row): row for row in range(size.items)}, categories, knowledge.predicates)
    force = book.at(NOW)
    wanted = rng.random((CALLS, CATEGORIES))
    rows = [rng.choice(size.items, size.candidates, replace=False).astype(np.int64) for _ in range(CALLS)]
    scores = rng.gumbel(size=(CALLS, size.candidates)).astype(np.float32)
    past = rng.integers(0, size.items, (CALLS, size.history))
    when = np.sort(rng.integers(NOW - 30 * DAY, NOW, (CALLS, size.history)), axis=1)
    added = rng.normal(0.1, 0.2, (CALLS, size.places, len(SCORERS))).astype(np.float32)
    seen = np.where(rng.random(added.shape) < 0.5, 7, NOBODY)
    seen_at = np.where(seen == NOBODY, 0, NOW - DAY)
    weights = np.power(0.9, np.arange(20)).astype(np.float32)

    def chosen(shape: Shape, **more: Any) -> Callable[[int], Any]:
        return lambda user: slate(rows[user], scores[user], vectors, ties, shape, **more)

    def told(user: int) -> list[str]:
        found = reasons(added[user], SCORERS, seen[user], seen_at[user], 0.01)
        return [worded(why, "Alien", ("horror",), now=NOW) for whys in found for why in whys]

    places = size.places
    return {
        "rules: admitted candidates": lambda user: admitted(
            force, rows[user], NOW, past[user], when[user], past[user], when[user]
        ),
        "slate by relevance": chosen(Shape(places)),
        "slate, MMR .3": chosen(Shape(places, "mmr", 0.3)),
        "slate, MMR .7": chosen(Shape(places, "mmr", 0.7)),
        "slate, DPP .3": chosen(Shape(places, "dpp", 0.3)),
        "slate, DPP .7": chosen(Shape(places, "dpp", 0.7)),
        "slate, MMR .3, caps": chosen(Shape(places, "mmr", 0.3), caps=force.caps),
        "slate, calibrated .3": lambda user: slate(
            rows[user], scores[user], vectors, ties, Shape(places, calibration=0.3), categories=categories, wanted=wanted[user]
        ),
        "slate, MMR .3, caps, calibrated .3": lambda user: slate(
            rows[user], scores[user], vectors, ties, Shape(places, "mmr", 0.3, 0.3),
            caps=force.caps, categories=categories, wanted=wanted[user],
        ),
        "knowledge: scores": lambda user: knowledge.affinity(rows[user], past[user][:20], weights),
        f"reasons of {len(SCORERS)} scorers": lambda user: reasons(added[user], SCORERS, seen[user], seen_at[user], 0.01),
        "... and their words": told,
    }  # fmt: skip
