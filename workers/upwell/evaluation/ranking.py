"""Test, then learn: a log in, how well the workers' own ranking predicts it out, with peers beside it.

For each liked item that its user has not had before, all items that the user has not had are ranked by what was learned
from the events before it (Gama et al., 2013, "On evaluating stream learning algorithms"); then the event is learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.new_items import Content, Releases, releases, replay_released
from upwell.evaluation.peers import PEERS, Judged, judged
from upwell.evaluation.ranking_log import RankingLog
from upwell.ranking import kernel, learner
from upwell.ranking.learner import SCORERS, STAGES, Tuning

PLACES: Final = 10
COLD: Final = 5
"""A user is cold in the first events, so many."""
PART: Final = 100_000
"""Events between two signs of life."""
_COMPARED: Final = 2_000
"""Slates whose diversity is measured."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay of e events found."""

    rank: NDArray[np.int64]
    """[e] candidates before the item that came; -1 where the event is no target."""
    history: NDArray[np.int64]
    """[e] the user's events before it."""
    slates: NDArray[np.int32]
    """[e, PLACES] rows, -1 where there are fewer."""
    us_per_event: float
    """Processor time of ranking and learning, us."""
    shared: learner.Shared


@dataclass(slots=True)
class RankingEvaluation:
    log: RankingLog
    replayed: Replayed
    ablation: dict[str, Replayed] = field(default_factory=dict)
    """By scorer: the replay without it."""
    peers: dict[str, Judged] = field(default_factory=dict)
    """By name."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Peers that could not run, and why."""
    released: Releases | None = None
    content: Content | None = None
    with_content: NDArray[np.int64] | None = None
    """[e] places on slates that were made with vectors, of what was released; -1 where the event is no target."""
    oracle: NDArray[np.int64] | None = None
    """[e] ranks of the truth, where the stream is a generated one."""

    sharing: dict[str, Any] | None = None
    """What sampling and sharding of what is learned cost, where that was asked for."""
    exploration: dict[str, Any] | None = None
    """What drawing the last places costs, where that was asked for."""
    reasons: dict[str, Any] | None = None
    """What `reasons_check.check` found, where that was asked for."""
    segments: dict[str, Any] | None = None
    """What `cold_users.compare` found, where that was asked for."""
    elicitation: dict[str, Any] | None = None
    """What `asking.compare` found, where that was asked for."""
    through_stack: dict[str, Any] | None = None
    """Figures of the rankings that a real stack published, where that was asked for."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by JSON key."""
        log, replayed = self.log, self.replayed
        found: dict[str, Any] = {
            "dataset": log.name,
            "events": log.events,
            "users": log.users,
            "items": len(log.items),
            **spans(replayed.rank, replayed.history),
            "us_per_event": round(replayed.us_per_event, 2),
            **beyond_accuracy(log, replayed.slates),
            "notes": log.notes,
        }
        if self.oracle is not None:
            found["oracle"] = spans(np.where(log.targets, self.oracle, -1), replayed.history)
        if self.sharing is not None:
            found["sharing"] = self.sharing
        if self.exploration is not None:
            found["exploration"] = self.exploration
        if self.reasons is not None:
            found["reasons"] = self.reasons
        if self.with_content is not None:
            found["new_items"] = self._new_items(self.with_content)
        if self.segments is not None:
            found["segments"] = self.segments
        if self.elicitation is not None:
            found["elicitation"] = self.elicitation
        if self.through_stack is not None:
            found["through_stack"] = self.through_stack
        if self.ablation:
            found["ablation"] = {
                name: {**figures(each.rank), "us_per_event": round(each.us_per_event, 2)}
                for name, each in self.ablation.items()
            }
        if self.peers or self.lacking:
            found["peers"] = {
                **{
                    name: {**spans(peer.rank, replayed.history), "us_per_event": round(peer.us_per_event, 2)}
                    for name, peer in self.peers.items()
                },
                **{name: {"not_measured": why} for name, why in self.lacking.items()},
            }
        return found

    def _new_items(self, places: NDArray[np.int64]) -> dict[str, Any]:
        """Figures of new items' first likings; `all_targets`: of all targets, by the same slates."""
        assert self.released is not None
        assert self.content is not None
        released, keys = self.released, ("targets", "hr_at_10", "ndcg_at_10")

        def of(places: NDArray[np.int64]) -> dict[str, Any]:
            shown = figures(places)
            return {key: shown[key] for key in keys}

        own = np.where(released.targets, places, -1)
        half = np.arange(len(own)) < len(own) // 2
        return {
            **of(own),
            "halves": [of(np.where(half, own, -1)), of(np.where(half, -1, own))],
            "items": int((released.at > 0).sum()),
            "all_targets": of(places),
            "vectors": self.content.made_of,
            "weight_content": self.content.settings.ranking.weight_content,
            "peers": {name: of(peer.new) for name, peer in self.peers.items()},
        }


def evaluate(
    log: RankingLog,
    *,
    tuning: Tuning = Tuning(),
    peers: Iterable[str] = (),
    ablation: bool = False,
    content: Content | None = None,
    say: Callable[[str], None] = lambda _: None,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> RankingEvaluation:
    """Replay a log, and where asked without each scorer, and with each of the named peers of `PEERS`.

    Args:
        content: where given, new items are looked at as well.
        say: a line about each figure found.
        tell: what goes on, and how much of how much is done.
    """
    tell("compiling", 0, 1)
    # Compiling, or reading what was compiled, is no part of the time per event.
    replay(log.first(50), tuning)
    found = RankingEvaluation(log, replay(log, tuning, done=partial(tell, log.name)))
    say(f"{log.name}: {found.replayed.us_per_event:.1f} us per event")
    if ablation:
        for scorer in SCORERS:
            found.ablation[scorer] = replay(log, tuning, scorer, done=partial(tell, f"without {scorer}"))
            say(f"without {scorer}: {figures(found.ablation[scorer].rank)}")
    released = found.released = releases(log)
    if content is not None:
        found.content = content
        found.with_content = replay_released(log, content, released, partial(tell, "new items"))
        say(f"new items: {figures(np.where(released.targets, found.with_content, -1))}")
    for name in peers:
        try:
            peer = PEERS[name](log)
        except ImportError as missing:
            found.lacking[name] = f"{missing.name} is missing: pip install 'upwell[evaluation]'"
            continue
        found.peers[name] = judged(peer, log, released, partial(tell, name))
        say(f"{name}: {figures(found.peers[name].rank)}")
    return found


def replay(
    log: RankingLog,
    tuning: Tuning = Tuning(),
    without: str | None = None,
    told: NDArray[np.bool_] | None = None,
    kept: NDArray[np.bool_] | None = None,
    done: Callable[[int, int], None] = lambda *_: None,
) -> Replayed:
    """One pass over a log with nothing learned before it.

    Args:
        without: name of a scorer that is left out.
        told: [events] whether an event is learned from; all are where it is left out.
        kept: [items] whether an item's neighbours are kept, likewise.
        done: told how many events of how many have been replayed.
    """
    items, events = len(log.items), log.events
    tuning = learner.sized(tuning, items)
    shared = learner.new(items, tuning)
    shared.live[:] = log.live
    shared.category[:] = log.category
    if without is not None:
        scorer = SCORERS.index(without)
        shared.mix[:, scorer] = 0
        shared.slopes[:, scorer] = np.inf
    kernel.refresh(shared, tuning)
    recent, room = learner.users(log.users, tuning), learner.lessons(1, tuning)
    scratch = learner.scratch(items, len(log.categories))
    rank, history = np.full(events, -1, np.int64), np.zeros(events, np.int64)
    slates = np.full((events, PLACES), -1, np.int32)
    earlier, last = np.full(events, -1, np.int32), np.full(log.users, -1, np.int32)
    told = np.ones(events, bool) if told is None else told
    kept = np.ones(items, bool) if kept is None else kept
    bounds, stream, spent = np.asarray(STAGES), log.stream, 0.0
    for begin in range(0, events, PART):
        end = min(begin + PART, events)
        start = time.process_time()
        kernel.replay(
            shared,
            tuning,
            recent,
            scratch,
            room,
            stream,
            told,
            kept,
            bounds,
            earlier,
            last,
            rank,
            history,
            slates,
            begin,
            end,
        )
        spent += time.process_time() - start
        done(end, events)
    return Replayed(rank, history, slates, spent / max(events, 1) * 1e6, shared)


def figures(rank: NDArray[np.int64]) -> dict[str, Any]:
    """Measures of ranks (negative ones are no targets); one item is relevant in each ranking.

    NDCG and MAP are cut at ten places, MRR is of the whole ranking. With one relevant item an average precision is the
    reciprocal of its rank.
    """
    rank = rank[rank >= 0]
    if not len(rank):
        return {"targets": 0, "hr_at_10": None, "ndcg_at_10": None, "mrr": None, "map": None}
    hit = rank < PLACES
    return {
        "targets": len(rank),
        "hr_at_10": round(float(hit.mean()), 4),
        "ndcg_at_10": round(float((hit / np.log2(rank + 2.0)).mean()), 4),
        "mrr": round(float((1 / (rank + 1.0)).mean()), 4),
        "map": round(float((hit / (rank + 1.0)).mean()), 4),
    }


def spans(rank: NDArray[np.int64], history: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of all targets, of both halves of the log, of cold and warm users, and without users' first events."""
    half = np.arange(len(rank)) < len(rank) // 2

    def of(where: NDArray[np.bool_]) -> dict[str, Any]:
        return figures(np.where(where, rank, -1))

    return {
        **figures(rank),
        "halves": [of(half), of(~half)],
        "cold": of(history < COLD),
        "warm": of(history >= COLD),
        "with_history": of(history > 0),
    }


def beyond_accuracy(log: RankingLog, slates: NDArray[np.int32]) -> dict[str, Any]:
    """Coverage: share of the candidates that were on a slate. Novelty: mean bits of surprise of a place, -log2 of its
    item's share of the events so far. Diversity: mean of 1 - Jaccard over the categories of pairs on a slate.
    """
    shown = np.unique(slates[slates >= 0])
    counts, bits = np.ones(len(log.items)), []
    for at, item in enumerate(log.stream.item):
        slate = slates[at][slates[at] >= 0]
        if len(slate):
            bits.append(-np.log2(counts[slate] / (at + len(counts))).mean())
        counts[item] += 1
    sets = np.zeros((len(log.items), len(log.categories) + 1), bool)
    np.put_along_axis(sets, log.category, True, axis=1)
    sets[:, 0] = False
    apart = []
    for slate in slates[np.linspace(0, len(slates) - 1, min(_COMPARED, len(slates))).astype(int)]:
        held = sets[slate[slate >= 0]].astype(np.int64)
        held = held[held.any(axis=1)]
        if len(held) > 1:
            both = held @ held.T
            sizes = held.sum(axis=1)
            unlike = 1 - both / (sizes[:, None] + sizes[None, :] - both)
            apart.append(unlike[np.triu_indices(len(held), 1)].mean())
    return {
        "coverage": round(len(shown) / max(int(log.live.sum()), 1), 4),
        "novelty_bits": round(float(np.mean(bits)), 3) if bits else None,
        "diversity": round(float(np.mean(apart)), 4) if apart else None,
    }
