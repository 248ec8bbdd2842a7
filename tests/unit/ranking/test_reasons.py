"""Reasons: shares and evidence are those of the scores, and removing the named event proves it."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upwell.ranking import reasons as module
from upwell.ranking.reasons import DAY, HOUR, NOBODY, Kind, Why, falls, reasons, strongest, worded

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


def test_the_event_that_added_most_is_the_evidence() -> None:
    parts = np.array([[0.1, 0.4, 0.2], [0, 0, 0], [0.3, -1, 0.3]], np.float32)
    rows, times = strongest(parts, np.array([10, 11, 12]), np.array([1, 2, 3]))
    assert rows.tolist() == [11, NOBODY, 12]
    assert times.tolist() == [2, 0, 3]
    assert strongest(parts[:, :0], np.zeros(0, np.int64), np.zeros(0, np.int64))[0].tolist() == [NOBODY] * 3


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


def test_without_the_named_event_the_item_falls() -> None:
    """A toy scorer: co-occurrence counts with the history, fading by the order of what is left of it."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(1.0, (30, 30)).astype(np.float64)  # [history item, item]
    checked = 0
    for _ in range(50):
        history = rng.choice(30, 8, replace=False)
        times = np.arange(8) * HOUR

        def parts(kept: NDArray[np.bool_], history: NDArray[np.int64] = history) -> NDArray[np.float64]:
            steps = np.cumsum(kept[::-1])[::-1] - 1
            faded: NDArray[np.float64] = np.where(kept, 0.9**steps, 0)[:, None] * counts[history]
            return faded

        whole = parts(np.ones(8, bool))
        slate = np.argsort(-whole.sum(axis=0))[:5]
        rows, when = strongest(whole[:, slate].T.astype(np.float32), history, times)
        assert (rows != NOBODY).all()
        fall = falls(lambda kept: parts(kept).sum(axis=0), 8, slate, when // HOUR)
        expected = [
            whole.sum(axis=0)[item] - parts(np.arange(8) != at).sum(axis=0)[item]
            for item, at in zip(slate, when // HOUR, strict=True)
        ]
        np.testing.assert_allclose(fall, expected)
        assert (fall > 0).all()
        checked += len(fall)
    assert checked == 250


def test_a_reason_that_names_the_wrong_event_is_found_out() -> None:
    def score(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.array([kept[0] * 1.0, kept[1] * 1.0])

    assert falls(score, 3, np.array([0, 1, 1]), np.array([0, 0, 2])).tolist() == [1, 0, 0]
