"""What each scorer added to the chosen items, and the events it rests on, in; reasons as data and in words out. Pure.

A reason claims no more than the arithmetic says: its share is what its scorers added to the score, its evidence the event
without which the score would be lowest (a counterfactual explanation in the sense of Wachter, Mittelstadt and Russell
2018); `upwell evaluate ranking --reasons` takes the event away and ranks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NOBODY: Final = -1
"""Row of evidence where there is none."""
SHARED: Final = 2
"""Categories that a reason of taste names."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
DONE: Final = {
    "view": "looked at",
    "click": "looked at",
    "add_to_cart": "put into your cart",
    "purchase": "bought",
    "share": "shared",
    "play": "played",
}
"""Event types as a person would say them; what is not here was liked."""


class Kind(StrEnum):
    """What a reason says; several scorers may say the same."""

    SIMILAR = "similar"
    """To an item of the user's history: consumed together with it by others, or alike."""
    TASTE = "taste"
    """The long-term profile, categories that the user likes."""
    POPULAR = "popular"
    """With all others, or with those of the user's segment."""
    NEW = "new"
    """An item without interactions; the evidence is an item that it resembles."""
    ASKED = "asked"
    """Not for its score: what the user thinks of it tells what the user likes."""


class Why(NamedTuple):
    """One reason of one item."""

    kind: Kind
    share: float
    """What its scorers added to the score."""
    row: int = NOBODY
    """Catalogue row of the evidence."""
    time: int = 0
    """Event time of the evidence, ms; 0 where there is none."""


def reasons(
    contributions: NDArray[np.float32],
    kinds: Sequence[Kind],
    rows: NDArray[np.int64],
    times: NDArray[np.int64],
    least: float,
    most: int = 3,
) -> list[list[Why]]:
    """Each item's reasons, largest share first; shares of one kind are added up.

    Args:
        contributions: [k, scorers] float32, what each scorer added to each chosen item's score.
        kinds: per scorer.
        rows: [k, scorers] int64, evidence, `NOBODY` for none; `times`, ms, beside it.
        least: a share that is not above it is no reason.
        most: reasons of an item.

    Returns:
        [k] lists. The evidence of a kind is that of the scorer that added most among those that have any. `similar`
        without evidence is left out: it would claim what nobody can check.
    """
    # The hot path: plain loops over a slate's few numbers are faster than array operations on them.
    found = []
    groups = _by_kind(tuple(kinds))
    for added, seen, seen_at in zip(contributions.tolist(), rows.tolist(), times.tolist(), strict=True):
        of_item = []
        for kind, scorers in groups:
            share, strongest_, evidence = 0.0, 0.0, NOBODY
            for scorer in scorers:
                part = added[scorer]
                share += part
                if part > strongest_ and seen[scorer] != NOBODY:
                    strongest_, evidence = part, scorer
            if share > least and (evidence != NOBODY or kind is not Kind.SIMILAR):
                row, time = (NOBODY, 0) if evidence == NOBODY else (seen[evidence], seen_at[evidence])
                of_item.append(Why(kind, share, row, time))
        of_item.sort(key=_share, reverse=True)
        found.append(of_item[:most])
    return found


_share = itemgetter(1)


@lru_cache
def _by_kind(kinds: tuple[Kind, ...]) -> list[tuple[Kind, list[int]]]:
    return [(kind, [s for s, own in enumerate(kinds) if own is kind]) for kind in dict.fromkeys(kinds)]


def worded(
    why: Why,
    title: str = "",
    shared: Sequence[str] = (),
    *,
    now: int = 0,
    done: str = "like",
    within_ms: float = 0,
    segment: str = "",
) -> str:
    """A reason as a person reads it.

    Args:
        title: of the evidence.
        shared: categories that the item has in common with what the user likes.
        now: ms, what `ago` counts from: the ranking's event time. 0 leaves the time out.
        done: type of the event that is the evidence.
        within_ms: half-life of the popularity, 0 for one that is not known.
        segment: of users with whom it is more popular than with others, in words.

    >>> worded(Why(Kind.SIMILAR, 0.4, 7, 1_000_000), "Fargo", now=1_120_000)
    'because you liked Fargo 2 minutes ago'
    >>> worded(Why(Kind.POPULAR, 0.2), within_ms=7 * DAY)
    'popular with others this week'
    >>> worded(Why(Kind.POPULAR, 0.2), segment="country de")
    'popular with others (country de)'
    >>> worded(Why(Kind.NEW, 0.1, 7), "Fargo")
    'new, similar to Fargo'
    """
    kind = why.kind
    if kind is Kind.SIMILAR:
        when = f" {ago(now - why.time)}" if now and why.time else ""
        return f"because you {DONE.get(done, 'liked')} {title}{when}"
    if kind is Kind.TASTE:
        return f"matches your taste for {', '.join(shared[:SHARED])}" if shared else "matches your long-term taste"
    if kind is Kind.NEW:
        return f"new, similar to {title}" if title else "new"
    if kind is Kind.ASKED:
        return "tell us what you think of it"
    if segment:
        return f"popular with others ({segment})"
    if not within_ms:
        return "popular now"
    return "popular with others " + ("today" if within_ms < 3 * DAY else "this week" if within_ms < 21 * DAY else "now")


def ago(ms: int) -> str:
    """How long ago, in the largest whole unit.

    >>> [ago(t) for t in (-5, 59_999, MINUTE, 2 * HOUR - 1, 47 * HOUR, 20 * DAY, 800 * DAY)]
    ['just now', 'just now', '1 minute ago', '1 hour ago', '1 day ago', '2 weeks ago', '2 years ago']
    """
    for unit, name in (
        (365 * DAY, "year"),
        (30 * DAY, "month"),
        (7 * DAY, "week"),
        (DAY, "day"),
        (HOUR, "hour"),
        (MINUTE, "minute"),
    ):
        if count := max(ms, 0) // unit:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
