"""What the live panel chooses to show of users, and in which words."""

from __future__ import annotations

from collections import deque

from upwell.cli.spotlight import Spotlight
from upwell.evaluation.reader import Watched
from upwell.events.codec import encode
from upwell.events.contracts import Content, Interaction, RankedItem, Ranking, Reason


def ranking(user: str, *items: str, reasons: list[Reason] | None = None) -> bytes:
    ranked = [RankedItem(item, 1.0, 1.0, reasons or []) for item in items]
    return encode(Ranking("r", user, 0, 1, 0, 1, ranked, "events", "m", 1, 1))


def interaction(user: str, item: str, kind: str = "rating", value: float | None = 4.0) -> bytes:
    return encode(Interaction("e", user, kind, 1, item, value))


def watched(*users: str) -> Watched:
    found = Watched()
    for user in users:
        found.interactions[user] = deque([interaction(user, "a")])
        found.rankings[user] = ranking(user, "a", "b")
        found.latest = user
    return found


TITLES = {"a": "Alien (1979)", "b": "Brazil (1985)"}


def test_users_take_their_places_one_by_one_and_stay() -> None:
    seen = watched("u")
    spotlight = Spotlight(seen, TITLES)
    assert [card.user for card in spotlight.cards(2)] == ["u"]
    assert [card.user for card in spotlight.cards(2)] == ["u"]

    seen.rankings["v"] = ranking("v", "b")
    seen.latest = "v"
    assert [card.user for card in spotlight.cards(2)] == ["u", "v"]
    seen.latest = "w"
    assert [card.user for card in spotlight.cards(2)] == ["u", "v"]
    assert [card.user for card in spotlight.cards(1)] == ["u"]


def test_a_user_with_a_text_comes_first() -> None:
    seen = watched("u", "v")
    seen.contents["u"] = Content("c", "t", "u", ["a"], "text", "en", "Try it.", "model", "m", "passed", "", "k", 1)
    (card,) = Spotlight(seen, TITLES).cards(1)

    assert (card.user, card.text, card.by_model) == ("u", "Try it.", True)


def test_words_for_events_and_moves_and_the_most_telling_reason() -> None:
    seen = watched("u")
    seen.interactions["u"] = deque([interaction("u", "a"), interaction("u", "x", "add_to_cart", None), b"\xff"])
    spotlight = Spotlight(seen, TITLES)
    (card,) = spotlight.cards(1)
    assert card.did == ["rated 4: Alien (1979)", "add to cart: x", "a record that cannot be read"]
    assert [item.moved for item in card.ranked] == ["", ""]

    popular, similar = Reason("popular", 0.5, "popular now"), Reason("similar", 0.3, "because you liked Alien", "a")
    seen.rankings["u"] = ranking("u", "b", "c", "a", reasons=[popular, similar])
    (card,) = spotlight.cards(1)
    assert [(item.title, item.moved) for item in card.ranked] == [
        ("Brazil (1985)", "up"),
        ("c", "new"),
        ("Alien (1979)", "down"),
    ]
    assert card.ranked[0].reason == "because you liked Alien"

    weak = Reason("similar", 0.1, "because you liked Alien", "a")
    seen.rankings["u"] = ranking("u", "b", reasons=[popular, weak])
    assert spotlight.cards(1)[0].ranked[0].reason == "popular now"
