"""A made stream of millions of events in; how fast, how large and how good the ranking is at that size, out.

Events are drawn by power laws: who acts (exponent .6), who belongs where (.8), what is taken of a group's items (1.1). Each user belongs to
one of some groups of items that overlap, and takes from another one now and then; within a group what is taken most
moves on with time, so that what is old fades. Popularity, halving as fast as is best here, stands beside it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking import PART, figures, replay
from upwell.evaluation.ranking_log import RankingLog
from upwell.ranking.learner import CATEGORIES, Stream

ALIKE: Final = 1_000
"""Items of a group."""
AWAY: Final = 0.3
"""Share of events outside the own group."""
DRIFT: Final = 0.5
"""By so much of a group does what is taken most move on, over the whole stream."""
HALF_LIVES: Final = (1_000, 5_000, 20_000, 100_000, 500_000, 2_500_000)
"""Of popularity, in events: the best one stands beside the ranking."""
SAMPLE: Final = 20_000
"""Targets that popularity is judged by."""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Scale:
    users: int = 1_000_000
    items: int = 100_000
    events: int = 20_000_000
    days: int = 28
    """That the events are spread over."""
    seed: int = 1


def made(scale: Scale) -> RankingLog:
    """The stream."""
    rng = np.random.default_rng(scale.seed)
    events, items, alike = scale.events, scale.items, min(ALIKE, scale.items)
    groups = max(1, items // 200)
    user = _drawn(rng, scale.users, 0.6, events).astype(np.int32)
    home = _drawn(rng, groups, 0.8, scale.users).astype(np.int32)
    group = np.where(rng.random(events) < AWAY, home[rng.integers(0, scale.users, events)], home[user])
    moved = (np.arange(events) * (DRIFT * alike / events)).astype(np.int32)
    place = (_drawn(rng, alike, 1.1, events).astype(np.int32) + moved) % alike
    item = ((group.astype(np.int64) * (items // groups) + place) % items).astype(np.int32)
    times = np.sort(rng.integers(0, scale.days * DAY_MS, events)) + 1_700_000_000_000
    category = np.zeros((items, CATEGORIES), np.int32)
    category[:, 0] = 1 + np.arange(items) // (items // groups) % groups
    ones = np.ones(events, np.float32)
    stream = Stream(user, item, ones, times, np.ones(events, bool))
    again = _again(user, item, items)
    names = [f"group {n}" for n in range(groups + 1)]
    order = np.zeros(0, np.int64)
    return RankingLog(
        "made", scale.users, [""] * items, stream, again, np.ones(items, bool), category, names, order, []
    )


def measure(scale: Scale, tell: Callable[[str, int, int], None] = lambda *_: None) -> dict[str, Any]:
    """Replay a stream at a size, test-then-learn; times are this thread's, memory is the whole process's.

    Args:
        tell: what goes on, and how much of how much is done.
    """
    tell("making the events", 0, 1)
    log = made(scale)
    before = _rss()
    replay(log.first(50))  # compiling, or reading what was compiled, is no part of the time
    started = time.perf_counter()
    parts: list[float] = []

    def done(at: int, of: int) -> None:
        parts.append(time.perf_counter())
        tell("ranking and learning", at, of)

    found = replay(log, done=done)
    seconds = time.perf_counter() - started
    targets = np.flatnonzero(log.targets)
    sample = targets[np.linspace(len(targets) // 10, len(targets) - 1, min(SAMPLE, len(targets))).astype(np.int64)]
    on_sample = np.full(log.events, -1)
    on_sample[sample] = found.rank[sample]
    popular = {}
    for half_life in HALF_LIVES:
        if half_life <= scale.events:
            tell(f"popularity that halves in {half_life:,} events", 0, 1)
            popular[half_life] = figures(_popularity_ranks(log, sample, half_life))
    best = max(popular, key=lambda half_life: popular[half_life]["hr_at_10"], default=None)
    tenth = max(len(parts) // 10, 1)
    return {
        **asdict(scale),
        "events_per_s": round(scale.events / seconds),
        "us_per_event": round(found.us_per_event, 2),
        "us_per_event_last_tenth": round((parts[-1] - parts[-1 - tenth]) / tenth / min(PART, scale.events) * 1e6, 2)
        if len(parts) > tenth
        else None,
        "memory_mb": {"events": round(before), "peak": round(_rss()), "shared": round(_bytes(found.shared) / 2**20)},
        "ranking": figures(np.where(log.targets, found.rank, -1)),
        "on_sample": figures(on_sample),
        "popularity": {"half_life_events": best, **popular[best]} if best is not None else None,
    }


def _drawn(rng: np.random.Generator, count: int, exponent: float, draws: int) -> NDArray[np.int64]:
    """[draws] int64 below count, with probabilities that fall as (place + 1)^-exponent."""
    edges = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -exponent)
    found: NDArray[np.int64] = np.searchsorted(edges, rng.random(draws) * edges[-1])
    return found


def _again(user: NDArray[np.int32], item: NDArray[np.int32], items: int) -> NDArray[np.bool_]:
    """[events] bool, whether the user has had the item before."""
    pair = user.astype(np.int64) * items + item
    order = np.argsort(pair, kind="stable")
    again = np.zeros(len(pair), bool)
    again[order[1:]] = pair[order[1:]] == pair[order[:-1]]
    return again


def _popularity_ranks(log: RankingLog, sample: NDArray[np.int64], half_life: int) -> NDArray[np.int64]:
    """[targets of the sample] items before the one that came, by decayed popularity, without what the user had."""
    stream, items = log.stream, len(log.items)
    order = np.argsort(stream.user, kind="stable")
    starts = np.searchsorted(stream.user[order], np.arange(log.users + 1))
    sums, learned = np.zeros(items), 0
    found = np.empty(len(sample), np.int64)
    for number, event in enumerate(sample.tolist()):
        ages = event - np.arange(learned, event)
        sums *= 0.5 ** ((event - learned) / half_life)
        np.add.at(sums, stream.item[learned:event], 0.5 ** (ages / half_life))
        learned = event
        user, item = int(stream.user[event]), int(stream.item[event])
        own = order[starts[user] : starts[user + 1]]
        had = stream.item[own[own < event]]
        better = sums > sums[item]
        found[number] = better.sum() - better[np.unique(had)].sum()
    return found


def _bytes(shared: Any) -> int:
    return sum(array.nbytes for array in shared)


def _rss() -> float:
    """Most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
