"""What a text may tell as its reason: only what the trigger gave evidence for."""

from __future__ import annotations

import pytest

from upwell.content.asking import asked_of, evidence, variants
from upwell.events.contracts import ContentTrigger, Reason
from upwell.store.contents import ItemFacts

TITLES = {"alien": "Alien", "jaws": "Jaws", "heat": "Heat (1995)", "fargo": "Fargo", "nameless": ""}
ITEMS = {name: ItemFacts(title, "", "en", [], {}, deleted=False) for name, title in TITLES.items()}


def trigger(**given: object) -> ContentTrigger:
    return ContentTrigger("t", "head_changed", "r", "u", "alien", 1, **given)  # type: ignore[arg-type]


def told(**given: object) -> list[tuple[str, ...]]:
    return [asked.because for asked in variants(asked_of(trigger(**given), "alien", ITEMS))]


def test_items_of_the_user_are_told_by_their_titles_and_never_the_item_itself() -> None:
    occasion = trigger(because=["heat", "alien", "gone", "nameless", "jaws"], framing="similar")
    assert evidence(occasion, "alien", ITEMS) == ("heat", "jaws")
    assert asked_of(occasion, "alien", ITEMS).because == ("Heat", "Jaws")


def test_candidates_tell_different_pairs_the_first_ones_first() -> None:
    assert told(because=["heat", "jaws", "fargo"]) == [("Heat", "Jaws"), ("Heat", "Fargo"), ("Jaws", "Fargo")]
    assert told(because=["heat"]) == [("Heat",)]
    assert told() == [()]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"framing": "taste", "taste": ["Horror"], "because": ["jaws"]}, "taste"),
        ({"framing": "taste"}, ""),
        ({"framing": "recent", "because": ["jaws"]}, "similar"),
        ({"framing": "similar", "because": ["gone"]}, ""),
        ({"framing": "popular", "because": ["jaws"]}, "popular"),
        ({"because": ["jaws"]}, "similar"),
        ({"reasons": [Reason("new", 0.5, "new, and close to your taste")]}, "new"),
        ({"reasons": [Reason("similar", 0.5, "because you liked Jaws")]}, ""),
        ({}, ""),
    ],
)
def test_a_reason_without_evidence_is_not_told(given: dict[str, object], reason: str) -> None:
    assert asked_of(trigger(**given), "alien", ITEMS).reason == reason
