"""Facts as similarity, as a scorer and as what rules select by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from upwell.events.contracts import Fact, Rule
from upwell.ranking.groups import none
from upwell.ranking.knowledge import Knowledge
from upwell.ranking.rules import Book

ALIEN, BLADE, HEAT, JAWS, DUNE = range(5)
TRIPLES = [
    (ALIEN, "director", "Scott"),
    (BLADE, "director", "Scott"),
    (HEAT, "director", "Mann"),
    (ALIEN, "language", "English"),
    (ALIEN, "language", "English"),
    (BLADE, "language", "English"),
    (HEAT, "language", "English"),
    (JAWS, "language", "English"),
]


def test_similarity_is_the_cosine_of_shared_facts_by_rarity() -> None:
    knowledge = Knowledge(TRIPLES, 5)
    # Four items have facts: Scott weighs log(4/2), English log(4/4) = 0, and Mann is shared with nobody.
    found = knowledge.similarity(np.arange(5), np.arange(5))
    assert found[ALIEN, BLADE] == pytest.approx(1.0)
    assert found[ALIEN, HEAT] == found[DUNE].max() == 0
    more = Knowledge([*TRIPLES, (DUNE, "language", "French"), (JAWS, "writer", "W"), (ALIEN, "writer", "W")], 5)
    scott, english, writer = math.log(5 / 2), math.log(5 / 4), math.log(5 / 2)
    alien, blade = math.hypot(scott, english, writer), math.hypot(scott, english)
    assert more.similarity(np.array([ALIEN]), np.array([BLADE]))[0, 0] == pytest.approx(
        (scott**2 + english**2) / alien / blade, rel=1e-5
    )


def test_weights_of_predicates_and_what_is_for_rules_alone() -> None:
    quiet = Knowledge(TRIPLES, 5, {"director": 0.0})
    assert not quiet.similarity(np.arange(5), np.arange(5)).any()
    book = Book([Rule("r", "block", facts=[Fact("director", "Scott")])], {}, none(5), quiet.predicates)
    assert np.flatnonzero(~book.at(0).open).tolist() == [ALIEN, BLADE]


def test_a_history_scores_by_the_sum_of_similarities() -> None:
    rng = np.random.default_rng(1)
    triples = [(int(row), f"p{p}", f"o{o}") for row, p, o in rng.integers(0, [60, 3, 9], (400, 3))]
    knowledge = Knowledge(triples, 60)
    history, weights = np.array([3, 9, 12]), np.array([1.0, 0.5, -0.5], np.float32)
    rows = rng.permutation(60)
    expected = weights @ knowledge.similarity(history, rows)
    np.testing.assert_allclose(knowledge.affinity(rows, history, weights), expected, atol=1e-6)
    table = knowledge.similarity(np.arange(60), np.arange(60))
    np.testing.assert_allclose(table, table.T, atol=1e-6)
    np.testing.assert_allclose(table.diagonal(), 1, atol=1e-5)


def test_what_two_items_share_is_told_the_rarest_first() -> None:
    knowledge = Knowledge([*TRIPLES, (DUNE, "language", "French")], 5)
    assert knowledge.shared(ALIEN, BLADE) == [("director", "Scott"), ("language", "English")]
    assert knowledge.shared(ALIEN, BLADE, 1) == [("director", "Scott")]
    assert knowledge.shared(ALIEN, DUNE) == []


def test_no_facts_are_no_mistake_and_an_unknown_item_is() -> None:
    empty = Knowledge([], 3)
    assert empty.similarity(np.arange(3), np.arange(3)).tolist() == [[0] * 3] * 3
    assert empty.predicates == {}
    with pytest.raises(IndexError, match="director = Scott of row 5"):
        Knowledge([(5, "director", "Scott")], 5)
