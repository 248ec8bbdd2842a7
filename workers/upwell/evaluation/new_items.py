"""A log split by release: do items that nobody has had yet reach those who will like them?

Time is cut into `PERIODS` of as many events each. An item becomes a candidate at the beginning of the period in which it is
first had: the stream does not say when it came out, and a moment before its first event would give that event away. What is
there in the first period is not new. Targets are the first `FIRST` likings of each new item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.ranking_log import RankingLog
from upwell.ranking import kernel, learner, profile
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import Ranker
from upwell.settings import Settings

PERIODS: Final = 20
FIRST: Final = 5
PLACES: Final = 10


@dataclass(frozen=True, slots=True)
class Content:
    """What items are like, and how much that counts."""

    vectors: NDArray[np.float32]
    """[i, d] unit rows."""
    made_of: str
    """Said in the figures."""
    settings: Settings
    """Weights of content, taste and last items; half-life of a profile."""


@dataclass(frozen=True, slots=True)
class Releases:
    """e events, i items."""

    at: NDArray[np.int64]
    """[i] event before which the item becomes a candidate; 0: it was always there."""
    targets: NDArray[np.bool_]
    """[e] whether the event is one of the first likings of an item that was released later."""


def releases(log: RankingLog) -> Releases:
    """When each item was released, as far as a stream tells."""
    items, first = np.unique(log.stream.item, return_index=True)
    edges = np.linspace(0, log.events, PERIODS + 1).astype(np.int64)
    at = np.zeros(len(log.items), np.int64)
    at[items] = edges[np.searchsorted(edges, first, side="right") - 1]
    liked = np.flatnonzero(log.targets & (at[log.stream.item] > 0) & log.live[log.stream.item])
    own = log.stream.item[liked]
    order = np.argsort(own, kind="stable")
    place = np.empty(len(own), np.int64)
    place[order] = np.arange(len(own)) - np.searchsorted(own[order], own[order])
    targets = np.zeros(log.events, bool)
    targets[liked[place < FIRST]] = True
    return Releases(at, targets)


def replay_released(
    log: RankingLog,
    content: Content,
    released: Releases,
    done: Callable[[int, int], None] = lambda *_: None,
) -> NDArray[np.int64]:
    """Test, then learn, with the ranker that a worker holds, vectors included.

    Args:
        done: told how many events of how many have been replayed.

    Returns:
        [e] the place of the item that came, `PLACES` where it was not on the slate, -1 where the event is no target.
    """
    ranking, half_life = content.settings.ranking, content.settings.profiles.half_life_days * 86_400_000
    vectors, targets = content.vectors, log.targets
    catalogue = Catalogue(len(log.items))
    names = [[log.categories[number - 1] for number in own if number] for own in log.category.tolist()]
    for row, name in enumerate(log.items):
        catalogue.put(name, vectors[row], name, names[row], 1.0)
        if not log.live[row] or released.at[row] > 0:
            catalogue.remove(name)
    ranker = Ranker(catalogue, ranking.weight_content)
    recent, into = ranker.users(log.users), learner.lessons(1, ranker.tuning)
    taste = np.zeros((log.users, catalogue.dimension), np.float32)
    bases = np.full(log.users, profile.EMPTY_BASE)
    had, liked = [list[int]() for _ in range(log.users)], [list[int]() for _ in range(log.users)]
    found = np.full(log.events, -1, np.int64)
    births = np.flatnonzero((released.at > 0) & log.live)
    births = births[np.argsort(released.at[births], kind="stable")]
    stream, born = log.stream, 0
    for event in range(log.events):
        come = born
        while born < len(births) and released.at[births[born]] <= event:
            row = int(births[born])
            catalogue.put(log.items[row], vectors[row], log.items[row], names[row], 1.0)
            born += 1
        if born > come or event == 0:
            ranker.fit()
            # A worker does this once a second at most; here the clock on the wall says nothing.
            kernel.refresh(ranker.shared, ranker.tuning)
        user, item = int(stream.user[event]), int(stream.item[event])
        valence, time = float(stream.valence[event]), int(stream.time[event])
        gone = np.array(had[user], np.int32)
        if targets[event]:
            lately = profile.recent_interest(catalogue.vectors, [np.array(liked[user], np.int64)], ranking.recent)
            interest = ranking.weight_taste * profile.unit(taste[user : user + 1]) + ranking.weight_recent * lately
            (slate,) = ranker.rank(
                recent, [user], np.array([time]), [gone], interest.astype(np.float32), catalogue.ties, PLACES
            )
            place = np.flatnonzero(slate.rows == item)
            found[event] = place[0] if len(place) else PLACES
        ranker.teach(recent, user, item, valence, time, gone, into, 0)
        ranker.learn(into, 1)
        ranker.remember(recent, user, item, valence, time)
        profile.add(taste, bases, user, vectors[item], valence, *profile.decay(time, half_life))
        had[user].append(item)
        if valence > 0:
            liked[user].append(item)
        if (event + 1) % 1_000 == 0 or event + 1 == log.events:
            done(event + 1, log.events)
    return found
