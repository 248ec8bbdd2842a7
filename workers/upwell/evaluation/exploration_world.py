"""A catalogue that changes, ranked by what was learned from its own slates: what exploration costs, and what it finds.

Items have a like-rate that nobody knows; some are replaced by new ones all the time. Slates hold the items of the
highest score, which is learned from the slates alone, as in a running deployment: what is not shown is not learned. The
score is a rate by counts: a cautious ranking starts an item at nothing, as counts of likes and of co-occurrence do, and an
open-minded one at the mean of all items. The last positions are explored by the product's own code, or not at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.exploration import Budget, Doubt, beliefs, explore, optimistic, pools, posterior, weights

Floats = NDArray[np.float64]

ITEMS: Final = 300
PLACES: Final = 10
RATES: Final = (2.0, 10.0)
"""Beta distribution of items' like-rates: a sixth on average."""
TASTE: Final = 0.15
"""Standard deviation of users' own liking, on the scale of `posterior`; the ranking knows it."""
SLATES: Final = 200
"""Slates between two times that counts are learned."""
TICKS: Final = 200
REPLACED: Final = 3
"""Items that become new ones at each tick."""
OFFERED: Final = 14
"""Items offered to every pool."""
BEST: Final = 30
"""So many items of the highest rates should be known ..."""
KNOWN: Final = 30
"""... by so many showings ..."""
OLD: Final = 20
"""... after so many ticks."""
DOUBT: Final = Doubt(rate=RATES[0] / sum(RATES), strength=6.0, taste=0.1)
"""What exploration believes, and an open-minded ranking."""
CAUTION: Final = Doubt(rate=0.0, strength=20.0)
"""What a cautious ranking believes of an item that nobody has seen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the second half of one run, which begins with nothing known."""

    likes: float
    """Expected per slate."""
    cost: float
    """Likes per slate that a slate loses by being filled from its pool."""
    found: float
    """Share of the best items of some age that are known."""

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def run(budget: Budget, cautious: bool, seed: int, ticks: int = TICKS) -> Outcome:
    """One run of ticks * SLATES slates, more than 2 * OLD ticks; items and users are a function of the seed."""
    rng = np.random.default_rng(seed)
    rate, born = rng.beta(*RATES, ITEMS), np.zeros(ITEMS, np.int64)
    liked, shown = np.zeros(ITEMS), np.zeros(ITEMS)
    likes: list[Floats] = []
    drawn: list[NDArray[np.bool_]] = []
    found: list[float] = []
    for tick in range(ticks):
        gone = rng.choice(ITEMS, REPLACED, replace=False)
        rate[gone], born[gone], liked[gone], shown[gone] = rng.beta(*RATES, REPLACED), tick, 0, 0
        lean = rng.normal(0, TASTE, (SLATES, ITEMS)).astype(np.float32)
        known = posterior(liked, shown, DOUBT)
        score = (posterior(liked, shown, CAUTION) if cautious else known)[0] + lean
        slates = np.argsort(-score, axis=1, kind="stable")[:, :PLACES].astype(np.int64)
        offered = np.tile(optimistic(*known, np.ones(ITEMS, bool), OFFERED), (SLATES, 1))
        pool = pools(slates, offered, budget.positions)
        leans = np.take_along_axis(lean, np.maximum(pool, 0), axis=1)
        weight = weights(*beliefs(known, pool, leans, np.full(SLATES, 20), DOUBT), pool >= 0, budget.floor)
        made = explore(slates, pool, weight, np.arange(SLATES, dtype=np.uint64), np.full(SLATES, tick), budget)
        leans = np.take_along_axis(lean, made.rows, axis=1)
        liking = np.sin(np.clip(2 * np.arcsin(np.sqrt(rate[made.rows])) + leans, 0, np.pi) / 2) ** 2
        reacted = rng.random(liking.shape) < liking
        np.add.at(shown, made.rows, 1.0)
        np.add.at(liked, made.rows, reacted.astype(np.float64))
        if tick >= ticks // 2:
            # What is expected, not what came of it: less noise.
            likes.append(liking.sum(axis=1))
            drawn.append(made.drawn)
            best = np.argsort(-rate)[:BEST]
            best = best[tick - born[best] >= OLD]
            found.append(float((shown[best] >= KNOWN).mean()))
    earned, explored = np.concatenate(likes), np.concatenate(drawn)
    cost = earned[~explored].mean() - earned[explored].mean() if explored.any() and not explored.all() else 0.0
    return Outcome(float(earned.mean()), float(cost), float(np.mean(found)))


def compare(budget: Budget, cautious: bool, runs: int, seed: int) -> dict[str, dict[str, Any]]:
    """No exploration, uniform exploration and Thompson sampling at the same budget: means and standard errors over runs."""
    ways = {
        "none": Budget(0.0, budget.positions, budget.floor),
        "uniform": Budget(budget.share, budget.positions, 1.0),
        "thompson": budget,
    }
    outcomes = {name: [run(way, cautious, seed + number) for number in range(runs)] for name, way in ways.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, several in outcomes.items():
        found[name] = {}
        for figure in Outcome.__slots__:
            values = np.array([getattr(each, figure) for each in several])
            found[name][figure] = float(values.mean())
            found[name][f"{figure}_error"] = float(values.std(ddof=1) / np.sqrt(runs))
        gained = np.array([a.likes / b.likes - 1 for a, b in zip(several, outcomes["none"], strict=True)])
        found[name]["gain"] = float(gained.mean())
        found[name]["gain_error"] = float(gained.std(ddof=1) / np.sqrt(runs))
    return found


def microseconds(budget: Budget, slates: int = 1_000, rounds: int = 20) -> float:
    """Of one slate, from its pool to its propensities, in batches; the fastest round, on the processor as it is."""
    rng = np.random.default_rng(0)
    known = posterior(rng.uniform(0, 20, ITEMS), rng.uniform(20, 200, ITEMS), DOUBT)
    rows = rng.permuted(np.tile(np.arange(ITEMS), (slates, 1)), axis=1)[:, :PLACES]
    offered = np.tile(optimistic(*known, np.ones(ITEMS, bool), OFFERED), (slates, 1))
    lean, events = rng.normal(0, TASTE, (slates, OFFERED + budget.positions)).astype(np.float32), np.full(slates, 20)
    keys, versions = rng.integers(0, 2**63, slates).astype(np.uint64), np.arange(slates)
    best = np.inf
    for _ in range(rounds):
        began = time.perf_counter()
        pool = pools(rows, offered, budget.positions)
        weight = weights(*beliefs(known, pool, lean, events, DOUBT), pool >= 0, budget.floor)
        explore(rows, pool, weight, keys, versions, budget)
        best = min(best, time.perf_counter() - began)
    return float(best / slates * 1e6)
