"""What of an item's attributes is published as facts."""

from __future__ import annotations

from upwell.events.contracts import Fact
from upwell.items.facts import MOST, facts


def test_the_named_attributes_are_facts() -> None:
    attributes = {
        "year": 1979, "cast": ["Weaver", " Hurt ", ""], "dvd": True, "score": 8.5, "of": None, "x": {"y": 1},
        "plot": "long " * 100, "secret": "z",
    }  # fmt: skip
    assert facts(attributes, ["year", "cast", "dvd", "score", "of", "x", "plot", "unknown"]) == [
        Fact("year", "1979"), Fact("cast", "Weaver"), Fact("cast", "Hurt"), Fact("dvd", "true"),
    ]  # fmt: skip
    assert facts(attributes, []) == []


def test_an_item_has_a_bounded_number() -> None:
    assert len(facts({"cast": [f"actor {n}" for n in range(1000)]}, ["cast"])) == MOST
