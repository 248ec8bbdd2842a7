"""Reasons: shares and evidence are those of the scores, and removing the named event proves it."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from upwell.ranking import reasons as module
from upwell.ranking.reasons import DAY, HOUR, NOBODY, Kind, Why, reasons, worded

KINDS = (Kind.SIMILAR, Kind.SIMILAR, Kind.TASTE, Kind.POPULAR, Kind.NEW)
NONE = [NOBODY] * 5


def decomposed(added: list[float], rows: list[int], times: list[int], **options: Any) -> list[Why]:
    return reasons(np.array([added], np.float32), KINDS, np.array([rows]), np.array([times]), 0.01, **options)[0]


def test_shares_of_a_kind_add_up_and_the_evidence_is_the_strongest() -> None:
    found = decomposed([0.25, 0.5, 0.0, 0.625, 0.0], [3, 4, *NONE[2:]], [30, 40, 0, 0, 0])
    assert found == [Why(Kind.SIMILAR, 0.75, 4, 40), Why(Kind.POPULAR, 0.625)]
    # The stronger scorer has no event to name: the weaker one's is the evidence.
    assert decomposed([0.25, 0.5, 0, 0, 0], [3, NOBODY, *NONE[2:]], [30, 0, 0, 0, 0]) == [
        Why(Kind.SIMILAR, 0.75, 3, 30)
    ]


def test_nothing_is_claimed_without_evidence_or_a_share() -> None:
    assert decomposed([0.5, 0.5, 0.005, -1, 0], NONE, [0] * 5) == []
    # A scorer that lowered the item is no evidence for it.
    assert decomposed([-0.1, 0.5, 0, 0, 0], [3, NOBODY, *NONE[2:]], [30, 0, 0, 0, 0]) == []


def test_at_most_so_many_the_largest_first() -> None:
    found = decomposed([0.1, 0.1, 0.4, 0.3, 0.25], [1, 1, 2, NOBODY, 5], [9, 9, 9, 0, 0], most=2)
    assert [why.kind for why in found] == [Kind.TASTE, Kind.POPULAR]


@pytest.mark.parametrize(
    ("why", "options", "text"),
    [
        (Why(Kind.SIMILAR, 1, 0, DAY), {"title": "Fargo"}, "because you liked Fargo"),
        (
            Why(Kind.SIMILAR, 1, 0, DAY),
            {"title": "Fargo", "now": DAY + 3 * HOUR},
            "because you liked Fargo 3 hours ago",
        ),
        (Why(Kind.SIMILAR, 1, 0), {"title": "Tea", "done": "purchase"}, "because you bought Tea"),
        (Why(Kind.TASTE, 1), {"shared": ["crime", "drama", "war"]}, "matches your taste for crime, drama"),
        (Why(Kind.TASTE, 1), {}, "matches your long-term taste"),
        (Why(Kind.POPULAR, 1), {}, "popular now"),
        (Why(Kind.POPULAR, 1), {"within_ms": DAY}, "popular with others today"),
        (Why(Kind.POPULAR, 1), {"within_ms": 60 * DAY}, "popular with others now"),
        (Why(Kind.NEW, 1), {}, "new"),
    ],
)
def test_words(why: Why, options: dict[str, Any], text: str) -> None:
    assert worded(why, **options) == text


def test_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(module).failed == 0
