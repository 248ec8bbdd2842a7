"""What is learned from all users, as arrays: events and what their users did before in, slates with their reasons out.

A score is a sum over `SCORERS`: the weight that the mix has learned for users with as long a history, times a feature.

- together, next, liked together, burst: how often other users took the candidate near the user's last items; at any
  distance and in either order, right after, liked by the same or liked by one and not by the other, within a minute.
  Bounded neighbours with decayed distance; logarithms of sums damped by popularity (Deshpande and Karypis, 2004,
  "Item-based top-N recommendation algorithms").
- ever, popular, popular now, popular here: events of the item so far, lately, just now, and lately among users with as
  long a history.
- liked: share of the item's events that liked it. category: what the user's last items say of the item's categories.

The mix is learned by the gradient of the log likelihood of what was taken, softmax over the candidates, with steps as
in Duchi et al. (2011), "Adaptive subgradient methods" (AdaGrad).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upwell.ranking import kernel

SCORERS: Final = (
    "together", "next", "liked together", "burst", "ever", "popular", "popular now", "popular here", "liked", "category",
)  # fmt: skip
STAGES: Final = (1, 5, 10, 20, 40, 80)
"""Lengths of history at which another mix begins."""
CATEGORIES: Final = 4
"""An item's categories beyond these are not looked at."""
_FEW: Final = (1.0, 0.0, 0.0, 0.0, 0.1, 0.5, 0.1, 0.8, 0.8, 0.0)
_MORE: Final = (1.1, 0.2, 0.6, 0.3, -0.4, 0.1, 0.05, 0.1, 0.9, 0.8)
"""The mix before anything is learned, for users without events and for others. Chosen on MovieLens' first half."""


class Tuning(NamedTuple):
    """Constants of the arithmetic; chosen on the first half of MovieLens-100K."""

    last: int = 12
    """Events of a user that are looked at."""
    neighbours: int = 320
    """Neighbours kept of each item ..."""
    learned_items: int = 200_000
    """... and of so many items at most: of others that come the neighbours of those not met for long are given up."""
    tops: int = 128
    """Candidates by what does not depend on the user, for each stage."""
    decay: np.float32 = np.float32(0.9)
    """Each step back counts this much less; likewise decay_next, decay_category."""
    decay_next: np.float32 = np.float32(0.7)
    decay_category: np.float32 = np.float32(0.95)
    damping: np.float32 = np.float32(0.6)
    """A user's last item counts by (its events)^-damping."""
    prior: np.float32 = np.float32(0.15)
    """Added to a sum before its logarithm; likewise prior_next, prior_burst."""
    prior_next: np.float32 = np.float32(0.07)
    prior_burst: np.float32 = np.float32(0.02)
    burst_ms: int = 60_000
    """Events of a user this near to each other are a burst."""
    session_ms: int = 600_000
    """Bursts are looked at from items this near."""
    growth: tuple[float, float, float] = (1 / 0.998, 1 / 0.98, 1 / 0.998)
    """Growth of an event's weight from event to event: popular, popular now, popular here (of a stage's events)."""
    liked: np.float32 = np.float32(0.5)
    """An event of at least this valence is a like."""
    most: np.float32 = np.float32(50_000)
    """Events of an item at which its counts are halved."""
    rate: np.float32 = np.float32(0.1)
    """Step of the mix."""
    refresh: int = 512
    """Events between two refreshes of what is derived; a larger catalogue is refreshed once per quarter of its size."""


class Shared(NamedTuple):
    """A function of the log of lessons. i items, s stages, b blocks of n neighbours; rows are catalogue rows.

    An item takes a block with its first lesson. Blocks are given out, and taken back, in the order of the log, whatever the rows.

    State: all down to `clock`. Derived from it: block, taken, fixed, base, damp, top. Given: live, category.
    """

    neighbour: NDArray[np.uint32]
    """[b * n] rows."""
    weight: NDArray[np.float32]
    """[b * n * 4] together, next, liked together, burst."""
    owner: NDArray[np.int32]
    """[b] row whose neighbours are in the block."""
    met: NDArray[np.int64]
    """[b] clock of its last lesson."""
    filled: NDArray[np.int32]
    """[i] neighbours held."""
    counts: NDArray[np.float32]
    """[i] events; likewise likes."""
    likes: NDArray[np.float32]
    popular: NDArray[np.float64]
    """[i, 2] relative to the gain."""
    popular_at: NDArray[np.float64]
    """[s, i]."""
    gain: NDArray[np.float64]
    """[2 + s]."""
    mix: NDArray[np.float32]
    """[s, scorers]; likewise slopes: sums of squared gradients."""
    slopes: NDArray[np.float32]
    clock: NDArray[np.int64]
    """[1] lessons learned."""
    block: NDArray[np.int32]
    """[i] where an item's neighbours are; -1 where it has none."""
    taken: NDArray[np.int64]
    """[1] blocks that have an owner: the first ones."""
    fixed: NDArray[np.float32]
    """[i, 5 + s] features that no user changes."""
    base: NDArray[np.float32]
    """[s, i] their share in the score."""
    damp: NDArray[np.float32]
    """[i]."""
    top: NDArray[np.int32]
    """[s, tops] rows."""
    live: NDArray[np.bool_]
    """[i] the candidates."""
    category: NDArray[np.int32]
    """[i, CATEGORIES]; 0 is none."""


STATE: Final = Shared._fields[: Shared._fields.index("clock") + 1]
_BY_ITEM: Final = ("filled", "counts", "likes", "popular")
_BY_BLOCK: Final = ("owner", "met")
_WHOLE: Final = ("gain", "mix", "slopes", "clock")


class Recent(NamedTuple):
    """Each user's last events, by cache slot: rings of `Tuning.last`, and of one more, which would be in sight if one of them
    had not happened. Follows from the profile row's history."""

    item: NDArray[np.int32]
    """[users, last + 1] rows."""
    valence: NDArray[np.float32]
    """[users, last + 1] in [-1, 1]: the event's weight."""
    time: NDArray[np.int64]
    """[users, last + 1] ms since the epoch."""
    events: NDArray[np.int64]
    """[users] so far; the newest is at (events - 1) % (last + 1)."""


class Lessons(NamedTuple):
    """What events teach, in log order: what `statistics` carries. r rows, k = `Tuning.last`."""

    item: NDArray[np.int32]
    """[r] rows."""
    valence: NDArray[np.float32]
    """[r] in [-1, 1]."""
    stage: NDArray[np.int32]
    """[r] of the user before the event."""
    held: NDArray[np.int32]
    """[r] events before it that are given, at most k."""
    before: NDArray[np.int32]
    """[r, k] the user's last items, newest first; likewise before_valence, soon (within `burst_ms`)."""
    before_valence: NDArray[np.float32]
    soon: NDArray[np.bool_]
    taught: NDArray[np.bool_]
    """[r] whether there is a gradient."""
    gradient: NDArray[np.float32]
    """[r, scorers] of the mix, computed by the user's owner."""


class Scratch(NamedTuple):
    """Working memory of one thread. i items."""

    sums: NDArray[np.float32]
    stamp: NDArray[np.int32]
    tick: NDArray[np.int32]
    rows: NDArray[np.int32]
    """[i + 1] the candidates."""
    feature: NDArray[np.float32]
    """[5, i + 1] together, next, liked together, burst, category of each candidate."""
    score: NDArray[np.float32]
    spare: NDArray[np.float32]
    own: NDArray[np.float32]
    interest: NDArray[np.float32]
    fresh_at: NDArray[np.int32]
    """[i] place among the new items of a batch, -1 for others."""
    place: NDArray[np.int32]
    """[i] where on a slate each item is; -1 between two uses."""


class Stream(NamedTuple):
    """Events to replay, in log order; e events."""

    user: NDArray[np.int32]
    """[e] slots."""
    item: NDArray[np.int32]
    """[e] rows."""
    valence: NDArray[np.float32]
    time: NDArray[np.int64]
    """[e] ms since the epoch."""
    target: NDArray[np.bool_]
    """[e] whether a ranking is judged by it."""


def new(items: int, tuning: Tuning) -> Shared:
    """Nothing learned, nothing a candidate. Memory of blocks is taken from the machine as they are."""
    stages, scorers = len(STAGES) + 1, len(SCORERS)
    blocks = min(items, tuning.learned_items)
    mix = np.tile(np.asarray(_MORE, np.float32), (stages, 1))
    mix[0] = _FEW
    return Shared(
        neighbour=np.zeros(blocks * tuning.neighbours, np.uint32),
        weight=np.zeros(blocks * tuning.neighbours * 4, np.float32),
        owner=np.zeros(blocks, np.int32),
        met=np.zeros(blocks, np.int64),
        filled=np.zeros(items, np.int32),
        counts=np.zeros(items, np.float32),
        likes=np.zeros(items, np.float32),
        popular=np.zeros((items, 2)),
        popular_at=np.zeros((stages, items)),
        gain=np.ones(2 + stages),
        mix=mix,
        slopes=np.full((stages, scorers), 0.01, np.float32),
        clock=np.zeros(1, np.int64),
        block=np.full(items, -1, np.int32),
        taken=np.zeros(1, np.int64),
        fixed=np.zeros((items, 5 + stages), np.float32),
        base=np.zeros((stages, items), np.float32),
        damp=np.ones(items, np.float32),
        top=np.zeros((stages, tuning.tops), np.int32),
        live=np.zeros(items, bool),
        category=np.zeros((items, CATEGORIES), np.int32),
    )


def sized(tuning: Tuning, items: int) -> Tuning:
    """The same with refreshes as rare as the catalogue is large, so that the cost per event stays the same."""
    return tuning._replace(refresh=max(tuning.refresh, items // 4))


def constants(tuning: Tuning) -> NDArray[np.float64]:
    """[c] what the state depends on beside the log: states made with others are of another model."""
    t = tuning
    return np.array(
        [t.neighbours, t.learned_items, t.decay, t.decay_next, *t.growth, t.liked, t.most, t.rate, *STAGES], np.float64
    )


def users(count: int, tuning: Tuning) -> Recent:
    """Rings without events."""
    shape = (count, tuning.last + 1)
    return Recent(
        np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.int64), np.zeros(count, np.int64)
    )


def lessons(rows: int, tuning: Tuning) -> Lessons:
    """Room for lessons."""
    shape = (rows, tuning.last)
    return Lessons(
        item=np.zeros(rows, np.int32),
        valence=np.zeros(rows, np.float32),
        stage=np.zeros(rows, np.int32),
        held=np.zeros(rows, np.int32),
        before=np.zeros(shape, np.int32),
        before_valence=np.zeros(shape, np.float32),
        soon=np.zeros(shape, bool),
        taught=np.zeros(rows, bool),
        gradient=np.zeros((rows, len(SCORERS)), np.float32),
    )


def scratch(items: int, categories: int) -> Scratch:
    """Working memory for catalogues of so many items and category numbers."""
    return Scratch(
        sums=np.zeros(items * 4, np.float32),
        stamp=np.zeros(items, np.int32),
        tick=np.zeros(1, np.int32),
        rows=np.zeros(items + 1, np.int32),
        feature=np.zeros((5, items + 1), np.float32),
        score=np.zeros(items + 1, np.float32),
        spare=np.zeros(items + 1, np.float32),
        own=np.zeros(len(SCORERS), np.float32),
        interest=np.zeros(categories + 1, np.float32),
        fresh_at=np.full(items, -1, np.int32),
        place=np.full(items, -1, np.int32),
    )


def snapshot(shared: Shared, items: int, tuning: Tuning) -> dict[str, NDArray[Any]]:
    """The state of the first `items` items by name, as copies; what is derived is left out, and empty places of neighbours.

    neighbour [n] and weight [n, 4] follow each other, as many of each block as its owner's are `filled`.
    """
    taken = int(shared.taken[0])
    filled = shared.filled[shared.owner[:taken]]
    count = int(filled.sum())
    neighbour, weight = np.empty(count, np.uint32), np.empty(4 * count, np.float32)
    kernel.gather(shared.neighbour, shared.weight, filled, tuning.neighbours, neighbour, weight)
    return {
        **{name: getattr(shared, name).copy() for name in _WHOLE},
        **{name: getattr(shared, name)[:items].copy() for name in _BY_ITEM},
        **{name: getattr(shared, name)[:taken].copy() for name in _BY_BLOCK},
        "popular_at": shared.popular_at[:, :items].copy(),
        "neighbour": neighbour,
        "weight": weight.reshape(-1, 4),
    }


def restore(held: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], items: int, tuning: Tuning) -> Shared:
    """A state out of a snapshot whose item `a` is row `rows[a]` here.

    Call `kernel.refresh` after `live` and `category` are set.

    Args:
        held: from `snapshot`, made with the same tuning.
        rows: [items of the snapshot] int64, distinct.
        items: rows of the state to be made; at least the largest of `rows` + 1.

    Raises:
        ValueError: the snapshot is of another shape.
    """
    shared = new(items, tuning)
    filled, neighbour, owner, old = held["filled"], held["neighbour"], held["owner"], len(rows)
    taken = len(owner)
    if (
        len(filled) != old
        or held["mix"].shape != shared.mix.shape
        or filled.min(initial=0) < 0
        or filled.max(initial=0) > tuning.neighbours
        or not len(neighbour) == len(held["weight"]) == filled.sum()
        or neighbour.max(initial=0) >= max(old, 1)
        or taken > len(shared.owner)
        or (taken and not 0 <= owner.min() <= owner.max() < old)
        or len(np.unique(owner)) != taken
        or filled[owner].sum() != filled.sum()
    ):
        raise ValueError("the snapshot was made with other neighbours, stages or scorers")
    for name in _BY_ITEM:
        getattr(shared, name)[rows] = held[name]
    for name in _WHOLE:
        getattr(shared, name)[:] = held[name]
    shared.popular_at[:, rows] = held["popular_at"]
    shared.owner[:taken], shared.met[:taken], shared.taken[0] = rows[owner], held["met"], taken
    shared.block[rows[owner]] = np.arange(taken)
    kernel.spread(
        neighbour, held["weight"].ravel(), filled[owner], rows, tuning.neighbours, shared.neighbour, shared.weight
    )
    return shared


def wider(shared: Shared, items: int, tuning: Tuning) -> Shared:
    """The same with room for more items. What needs no room is not copied, nor are blocks that nobody has taken."""
    old, taken, found = len(shared.counts), int(shared.taken[0]), {}
    for name, into in new(items, tuning)._asdict().items():
        held = getattr(shared, name)
        found[name] = into
        if held.shape == into.shape:
            found[name] = held
        elif name in ("neighbour", "weight"):
            many = taken * tuning.neighbours * (4 if name == "weight" else 1)
            into[:many] = held[:many]
        elif name in ("popular_at", "base"):
            into[:, :old] = held
        else:
            into[: len(held)] = held
    return Shared(**found)
