"""Rules over candidates: what each kind takes out, raises and caps, and when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from upwell.events.contracts import Fact, Rule
from upwell.ranking.groups import Groups
from upwell.ranking.rules import FOREVER, Book, InForce, admitted
from upwell.ranking.slate import Shape, slate

IDS = ["alien", "heat", "jaws", "babe", "dune"]
ROWS = {name: row for row, name in enumerate(IDS)}
CATEGORIES = Groups.of([["horror", "scifi"], ["crime"], ["horror"], ["family"], ["scifi"]])
DIRECTORS = Groups.of([["Scott"], ["Mann"], ["Spielberg"], ["Noonan"], []])
NONE = np.zeros(0, np.int64)
ALL = np.arange(5)
DAY = 86_400_000


def at(now: int, *rules: Rule) -> InForce:
    return Book(rules, ROWS, CATEGORIES, {"director": DIRECTORS}).at(now)


def named(rules: InForce, now: int = 0, **history: Any) -> list[str]:
    """Ids that are admitted, for a history of {consumed, shown: {id: times}}."""
    arrays = []
    for kind in ("consumed", "shown"):
        pairs = [(ROWS[name], when) for name, times in history.get(kind, {}).items() for when in times]
        arrays += [*np.array(pairs, np.int64).reshape(-1, 2).T]
    return [IDS[row] for row in np.flatnonzero(admitted(rules, ALL, now, *arrays))]


def test_without_rules_everything_not_yet_consumed_is_admitted() -> None:
    rules = at(0)
    assert named(rules, consumed={"heat": [-DAY]}) == ["alien", "jaws", "babe", "dune"]
    assert rules.until == FOREVER
    assert not rules.raised.any()


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (Rule("r", "block", items=["jaws", "nobody knows it"]), {"jaws"}),
        (Rule("r", "block", categories=["horror", "crime"]), {"alien", "heat", "jaws"}),
        (Rule("r", "block", facts=[Fact("director", "Mann"), Fact("director", "Scott")]), {"alien", "heat"}),
        (Rule("r", "block", categories=["horror"], facts=[Fact("director", "Scott")]), {"alien"}),
        (Rule("r", "block", facts=[Fact("composer", "Williams")]), set()),
        (Rule("r", "block", categories=["horror"], items=["alien", "heat"]), {"alien"}),
    ],
)
def test_a_rule_is_about_what_meets_all_that_it_names(rule: Rule, gone: set[str]) -> None:
    assert set(IDS) - set(named(at(0, rule))) == gone


def test_availability_and_blocks_begin_and_end() -> None:
    rules = (
        Rule("a", "available", items=["dune"], since=10, until=20),
        Rule("b", "available", items=["dune"], since=30),
        Rule("c", "block", items=["babe"], until=15),
    )
    shown = {now: set(named(at(now, *rules), now)) & {"dune", "babe"} for now in (9, 10, 14, 15, 19, 20, 29, 30)}
    assert shown == {
        9: set(), 10: {"dune"}, 14: {"dune"}, 15: {"dune", "babe"}, 19: {"dune", "babe"}, 20: {"babe"}, 29: {"babe"},
        30: {"dune", "babe"},
    }  # fmt: skip
    book = Book(rules, ROWS, CATEGORIES)
    now, changes = 0, []
    while (now := book.at(now).until) != FOREVER:
        changes.append(now)
    assert changes == [10, 15, 20, 30]


def test_boosts_add_up() -> None:
    rules = at(
        0, Rule("a", "boost", categories=["horror"], amount=0.5), Rule("b", "boost", items=["alien"], amount=-0.2)
    )
    np.testing.assert_allclose(rules.raised, [0.3, 0, 0.5, 0, 0], atol=1e-7)


def test_consumed_items_come_back_after_the_longest_wait() -> None:
    rules = at(
        0, Rule("a", "repeat", categories=["scifi"], window_s=10), Rule("b", "repeat", items=["dune"], window_s=60)
    )
    had = {"alien": [0], "dune": [0], "heat": [0]}
    assert named(rules, 9_999, consumed=had) == ["jaws", "babe"]
    assert named(rules, 10_000, consumed=had) == ["alien", "jaws", "babe"]
    assert named(rules, 60_000, consumed=had) == ["alien", "jaws", "babe", "dune"]
    assert named(rules, 60_000, consumed=had | {"dune": [0, 1]}) == ["alien", "jaws", "babe"]
    assert "heat" in named(at(0, Rule("now", "repeat")), 0, consumed=had)


def test_frequency_counts_showings_within_the_window() -> None:
    rules = at(0, Rule("a", "frequency", items=["alien", "heat"], most=2, window_s=10))
    shown = {"alien": [0, 5_000], "heat": [5_000], "jaws": [0, 1, 2, 3]}
    assert named(rules, 6_000, shown=shown) == ["heat", "jaws", "babe", "dune"]
    assert named(rules, 10_000, shown=shown) == IDS


def test_caps_together_per_category_and_per_object() -> None:
    together = at(0, Rule("a", "cap", categories=["horror", "scifi"], most=1))
    each = at(0, Rule("a", "cap", per="category", categories=["horror", "scifi"], most=1))
    any_category = at(0, Rule("a", "cap", per="category", most=1))
    director = at(0, Rule("a", "cap", per="director", most=1), Rule("b", "cap", items=["dune", "babe"], most=1))
    rng = np.random.default_rng(1)
    vectors, ties = rng.normal(size=(5, 4)).astype(np.float32), np.arange(5, dtype=np.uint64)

    def chosen(rules: InForce, scores: list[float]) -> list[str]:
        found = slate(ALL, np.array(scores, np.float32), vectors, ties, Shape(5), caps=rules.caps)
        return [IDS[row] for row in found]

    down, dune_first = [5.0, 4, 3, 2, 1], [1.0, 4, 3, 2, 5]
    assert chosen(together, down) == ["alien", "heat", "babe"]
    assert chosen(each, down) == ["alien", "heat", "babe"]
    assert chosen(each, dune_first) == ["dune", "heat", "jaws", "babe"]
    assert chosen(any_category, dune_first) == ["dune", "heat", "jaws", "babe"]
    assert chosen(director, down) == ["alien", "heat", "jaws", "babe"]


def test_admission_is_that_of_the_plain_rules_for_any_history() -> None:
    rng = np.random.default_rng(3)
    ids = [str(row) for row in range(3000)]
    groups = Groups.of([[f"c{c}" for c in rng.choice(5, 2)] for _ in ids])
    rules = [
        Rule("a", "block", categories=["c0"]),
        Rule("b", "repeat", categories=["c1"], window_s=50),
        Rule("c", "frequency", categories=["c2"], most=2, window_s=60),
        Rule("d", "frequency", categories=["c3"], most=1, window_s=20),
    ]
    force = Book(rules, {name: row for row, name in enumerate(ids)}, groups).at(0)
    inside = groups.matrix(np.arange(3000))
    for size in (0, 1, 100, 300):
        rows = rng.choice(3000, size, replace=False)
        pool = np.concatenate([rows, rng.integers(0, 3000, 50)])
        consumed, shown = rng.choice(pool, 120), rng.choice(pool, 900)
        consumed_at, shown_at = rng.integers(-100_000, 1, 120), rng.integers(-100_000, 1, 900)
        expected = []
        for row in rows:
            at, seen = consumed_at[consumed == row], shown_at[shown == row]
            waits = bool(len(at)) and (not inside[row, 1] or bool((-at < 50_000).any()))
            often = (inside[row, 2] and (-seen < 60_000).sum() >= 2) or (inside[row, 3] and (-seen < 20_000).sum() >= 1)
            expected.append(not (inside[row, 0] or waits or often))
        found = admitted(force, rows, 0, consumed, consumed_at, shown, shown_at)
        assert found.tolist() == expected
