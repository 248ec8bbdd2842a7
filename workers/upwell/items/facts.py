"""An item's attributes in; what of them is published as facts, (predicate, object), out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from upwell.events.contracts import Fact
from upwell.events.validate import MAX_ID

MOST: Final = 64
"""Facts of an item: every interactions worker holds those of all items."""


def facts(attributes: Mapping[str, Any], wanted: Collection[str]) -> list[Fact]:
    """The wanted attributes: texts, whole numbers and truth values, each of a list for itself.

    Objects of attributes, fractions, empty texts and what no rule could name (longer texts) are no facts.

    >>> facts({"director": "Ridley Scott", "cast": ["Weaver", "Hurt"], "score": 8.5}, ["director", "cast", "score"])
    [Fact(predicate='director', object='Ridley Scott'), Fact(predicate='cast', object='Weaver'), \
Fact(predicate='cast', object='Hurt')]
    """
    found = []
    for predicate in wanted:
        value = attributes.get(predicate)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool):
                found.append(Fact(predicate, str(one).lower()))
            elif (
                isinstance(one, str | int) and (told := str(one).strip()) and len(told) <= MAX_ID and told.isprintable()
            ):
                found.append(Fact(predicate, told))
    return found[:MOST]
