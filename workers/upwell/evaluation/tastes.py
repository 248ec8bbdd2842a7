"""Items in, interactions of made-up users out: for catalogues that nobody has used yet. Synthetic, and never more.

Seeded: the same items and habits give the same events, ids included, in time order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Interaction, Item

BEGIN_MS: Final = 1_767_225_600_000
"""2026-01-01: a fixed time, so that the events are."""
DAY_MS: Final = 86_400_000
_CHOICE = ("view", "click", "play", "like", "share")
_AFFINITY: Final = 3.0
"""How many times likelier an item of the session's own group is than its user's taste says."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How the users behave."""

    users: int = 300
    events: int = 20_000
    days: float = 60.0
    sharpness: float = 1.5
    """Spread of the users' tastes over groups, in log odds: 0 is indifference."""
    drift: float = 0.08
    """Share of a taste that is new a day later."""
    popularity: float = 0.7
    """Spread of the items' popularity, in log odds."""
    session: float = 6.0
    """Mean events of a session."""
    whim: float = 0.15
    """Share of events that follow no taste at all."""
    seed: int = 11


def interactions(items: Sequence[Item], habits: Habits = Habits()) -> list[Interaction]:
    """Interactions of synthetic users, in time order.

    A group is an item's categories. A user has a taste, log odds over groups, that drifts as an Ornstein-Uhlenbeck
    process (stationary: as far from indifference on the last day as on the first). Sessions come at random times, busy
    users (log-normal) more often; each has a mood, a group drawn from the taste of its day, and its events are items of
    that group or of the taste as a whole, by popularity; a share of them are whims. What is done follows from how well
    the item meets the taste: view, click, play (where it has a sound), like, share; whims are sometimes disliked.
    """
    if not items or habits.events <= 0:
        return []
    rng = np.random.default_rng(habits.seed)
    names = sorted({"/".join(item.categories) for item in items})
    group = np.array([names.index("/".join(item.categories)) for item in items])
    members = np.bincount(group, minlength=len(names))
    appeal = np.exp(habits.popularity * rng.standard_normal(len(items)))
    activity = rng.lognormal(0.0, 0.8, habits.users)
    # Exactly as many events as asked for: sessions are drawn until there are enough, the last one is cut.
    lengths: list[int] = []
    while sum(lengths) < habits.events:
        lengths.append(int(rng.geometric(1 / habits.session)))
    lengths[-1] -= sum(lengths) - habits.events
    owners = rng.choice(habits.users, len(lengths), p=activity / activity.sum())
    starts = np.sort(rng.uniform(0, habits.days, len(lengths)))
    tastes = habits.sharpness * rng.standard_normal((habits.users, len(names)))
    seen = np.zeros(habits.users)
    found: list[Interaction] = []
    for number, (user, start, length) in enumerate(zip(owners, starts, lengths, strict=True)):
        keep = np.exp(-habits.drift * (start - seen[user]))
        fresh = habits.sharpness * rng.standard_normal(len(names))
        tastes[user] = keep * tastes[user] + np.sqrt(1 - keep**2) * fresh
        seen[user] = start
        liking = _softmax(tastes[user] + np.log(members))
        mood = rng.choice(len(names), p=liking)
        weight = appeal * (liking / members)[group] * np.where(group == mood, _AFFINITY * len(names), 1.0)
        ts = BEGIN_MS + int(start * DAY_MS)
        for event in range(length):
            whim = rng.random() < habits.whim
            odds = appeal if whim else weight
            chosen = int(rng.choice(len(items), p=odds / odds.sum()))
            ts += int(rng.exponential(20_000)) + 1
            kind = _deed(items[chosen], float(tastes[user][group[chosen]]), bool(whim), rng)
            found.append(
                Interaction(
                    f"stamps-{habits.seed}-{number}-{event}",
                    f"synthetic-{user + 1}",
                    kind,
                    ts,
                    items[chosen].item_id,
                    session_id=f"s{habits.seed}-{number}",
                )
            )
    found.sort(key=lambda interaction: interaction.ts)
    return found


def _deed(item: Item, taste: float, whim: bool, rng: np.random.Generator) -> str:
    if whim and taste < 0 and rng.random() < 0.3:
        return "dislike"
    odds = np.array([2.0, 2.0, 0.0, 0.5 * np.exp(min(taste, 3.0) / 2), 0.1 * np.exp(min(taste, 3.0) / 2)])
    if any(piece.kind in ("audio", "speech") for piece in item.media):
        odds[2] = 1.5
    return _CHOICE[int(rng.choice(len(_CHOICE), p=odds / odds.sum()))]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(logits - logits.max())
    result: NDArray[np.float64] = odds / odds.sum()
    return result
