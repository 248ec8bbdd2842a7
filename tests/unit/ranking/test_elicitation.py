"""What a new user is asked about: known items that cover the catalogue."""

from __future__ import annotations

import numpy as np

from upwell.ranking.elicitation import associations, elicitation
from upwell.ranking.profile import unit


def test_one_item_of_each_group_before_a_second_of_any() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(5), 20)
    vectors = unit((10 * np.eye(5, 8)[group] + rng.normal(size=(100, 8))).astype(np.float32))
    popularity = rng.uniform(1, 2, 100).astype(np.float32)
    ties = np.arange(100, dtype=np.uint64)
    found = elicitation(vectors, popularity, ties, 5)
    assert sorted(group[found]) == [0, 1, 2, 3, 4]
    most_popular = np.argsort(-popularity)[:5]

    def coverage(rows: np.ndarray) -> float:
        return float((vectors[rows] @ vectors.T).max(axis=0) @ popularity)

    assert coverage(found) > 1.1 * coverage(most_popular)


def test_what_nobody_knows_is_not_asked_about() -> None:
    vectors = np.eye(4, dtype=np.float32)
    popularity = np.array([0, 9, 1, 0], np.float32)
    ties = np.arange(4, dtype=np.uint64)
    assert elicitation(vectors, popularity, ties, 4).tolist() == [1, 2]
    assert elicitation(vectors, np.zeros(4, np.float32), ties, 4).tolist() == []
    assert elicitation(vectors, popularity, ties, 4, pool=1).tolist() == [1]


def test_ties_are_in_the_order_of_the_hashes() -> None:
    vectors, popularity = np.eye(6, dtype=np.float32), np.ones(6, np.float32)
    ties = np.array([5, 3, 1, 0, 2, 4], np.uint64)
    assert elicitation(vectors, popularity, ties, 6).tolist() == [3, 2, 4, 1, 5, 0]


def test_items_consumed_with_the_same_ones_are_near_however_popular_they_are() -> None:
    """Two tastes of four contexts each; item 0 is ten times as popular as item 1 of the same taste."""
    together = np.array([[40, 40, 10, 10], [4, 4, 1, 1], [1, 1, 4, 4], [0, 0, 0, 0]], np.float64)
    vectors = associations(together)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.99
    assert near[0, 2] == 0
    assert not vectors[3].any()
    counts = together[:3]
    lift = counts * counts.sum() / np.outer(counts.sum(1), counts.sum(0))
    np.testing.assert_allclose(vectors[2], unit(np.log(np.maximum(lift, 1))[2:3].astype(np.float32))[0], rtol=1e-6)
