"""The newest raw records of all users in, two or three users worth looking at out, decoded.

A user stays on the screen for some seconds; the next is one about whom there is news, best of all a text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from upwell.evaluation.reader import Watched
from upwell.events.contracts import Interaction, RankedItem, Ranking

STAY_S = 7.0
WAIT_FOR_TEXT_S = 14.0
"""A user without a text yet is given this long to get one, if others have none either."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A ranked item, for people."""

    title: str
    reason: str
    moved: str
    """`new`, `up`, `down` or empty, against the ranking before."""


@dataclass
class Card:
    """What is shown of a user."""

    user: str
    since: float
    did: list[str] = field(default_factory=list)
    ranked: list[Shown] = field(default_factory=list)
    text: str = ""
    by_model: bool = False
    places: dict[str, int] = field(default_factory=dict)
    """Item to its place in the ranking shown."""
    raw: bytes = b""


def _reason(item: RankedItem) -> str:
    """The strongest reason; one with an item of the user's own as evidence already at half that strength."""
    strongest = max((reason.share for reason in item.reasons), default=0.0)
    telling = [reason for reason in item.reasons if reason.item_id and reason.share >= strongest / 2] or item.reasons
    return max(telling, key=lambda reason: reason.share).text if telling else ""


class Spotlight:
    """Chooses users and keeps their cards up to date."""

    def __init__(self, watched: Watched, titles: Mapping[str, str]) -> None:
        self._watched, self._titles = watched, titles
        self._cards: list[Card] = []
        self._shown: set[str] = set()
        self._ranking = msgspec.json.Decoder(Ranking).decode
        self._event = msgspec.json.Decoder(Interaction).decode

    def cards(self, count: int) -> list[Card]:
        """Up to `count` users, the same ones in the same places for some seconds each."""
        now = time.monotonic()
        del self._cards[count:]
        if len(self._cards) < count:
            if (user := self._candidate(patient=False)) is not None:
                self._cards.append(Card(user, now))
        else:
            oldest = min(range(count), key=lambda place: self._cards[place].since)
            stayed = now - self._cards[oldest].since
            if stayed > STAY_S and (user := self._candidate(patient=stayed < WAIT_FOR_TEXT_S)) is not None:
                self._cards[oldest] = Card(user, now)
        for card in self._cards:
            self._update(card)
        return self._cards

    def _candidate(self, *, patient: bool) -> str | None:
        """A user who is not on the screen and has a ranking: the one of the newest text, else of the newest event."""
        on_screen = {card.user for card in self._cards}
        user = next(reversed(self._watched.contents), None)
        if user is not None and user not in on_screen and user not in self._shown and user in self._watched.rankings:
            self._shown.add(user)
            return user
        user = self._watched.latest
        if patient or user in on_screen or user not in self._watched.rankings:
            return None
        return user

    def _update(self, card: Card) -> None:
        did = list(self._watched.interactions.get(card.user, ()))
        card.did = [self._sentence(raw) for raw in did]
        raw = self._watched.rankings.get(card.user, b"")
        if raw is not card.raw and raw:
            items = self._ranking(raw).items
            card.ranked = [self._ranked(card, place, item) for place, item in enumerate(items)]
            card.places = {item.item_id: place for place, item in enumerate(items)}
            card.raw = raw
        content = self._watched.contents.get(card.user)
        if content is not None:
            form = "" if content.format == "text" else f"({content.format}) "
            card.text, card.by_model = f"{form}{content.text}", content.source == "model"

    def _ranked(self, card: Card, place: int, item: RankedItem) -> Shown:
        before = card.places.get(item.item_id)
        moved = ""
        if card.places and before is None:
            moved = "new"
        elif before is not None and before != place:
            moved = "up" if place < before else "down"
        return Shown(self._title(item.item_id), _reason(item), moved)

    def _sentence(self, raw: bytes) -> str:
        try:
            event = self._event(raw)
        except msgspec.DecodeError:
            return "a record that cannot be read"
        item = self._title(event.item_id or "")
        if event.type == "rating" and event.value is not None:
            return f"rated {event.value:g}: {item}"
        return f"{event.type.replace('_', ' ')}: {item}"

    def _title(self, item: str) -> str:
        return self._titles.get(item, item)
