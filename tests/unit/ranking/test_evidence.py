"""What is told as a reason has its evidence: liked items that add to the score, categories that several of them share."""

from __future__ import annotations

import numpy as np

from upwell.ranking.evidence import nearest, tastes, witnesses
from upwell.ranking.profile import unit

VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0], [0, 1]], np.float32)


def test_liked_items_speak_for_an_item_once_by_nearness_and_by_time() -> None:
    assert witnesses(VECTORS, 0, np.array([2, 1, 4, 1, 2])) == ([1, 2], [2, 1])
    assert witnesses(VECTORS, 0, np.array([2, 4, 1])) == ([1, 2], [1, 2])


def test_what_adds_nothing_is_no_evidence_nor_is_the_item_itself() -> None:
    assert witnesses(VECTORS, 0, np.array([0, 3, 4])) == ([], [])
    assert witnesses(VECTORS, 0, np.empty(0, np.int64)) == ([], [])


def test_a_taste_is_what_several_liked_items_share_with_the_item() -> None:
    liked = [["Drama", "War"], ["Drama"], ["Comedy", "Drama"], ["War"]]
    assert tastes(["War", "Drama", "Comedy"], liked, 2) == ["Drama", "War"]
    assert tastes(["Comedy"], liked, 2) == []
    assert tastes(["Western"], liked, 2) == []
    assert tastes(["War"], [*liked, *[["Crime"]] * 9], 2) == []
    assert tastes(["War"], [], 2) == []


def test_the_nearest_liked_item() -> None:
    vectors = unit(np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32))
    assert nearest(vectors, np.array([1, 3]), np.array([2, 0])).tolist() == [0, 2]
