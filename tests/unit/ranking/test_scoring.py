"""The best items: against a plain computation, one user and one item after the other."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.popularity import Popularity
from upwell.ranking.profile import unit
from upwell.ranking.scoring import Mix, best, evidence, recent_interest

MIX = Mix(taste=0.4, recent=0.3, popular=0.5)
NONE = np.zeros(0, np.int64)


def test_equals_the_formula_for_every_user() -> None:
    rng = np.random.default_rng(11)
    vectors = unit(rng.normal(size=(60, 8)).astype(np.float32))
    profiles = unit(rng.normal(size=(300, 8)).astype(np.float32))
    liked = [rng.choice(60, size=rng.integers(0, 9), replace=False).astype(np.int64) for _ in range(300)]
    recent = recent_interest(vectors, liked, 5)
    popularity = rng.random(60).astype(np.float32)
    live = rng.random(60) > 0.2
    slates = best(profiles, recent, vectors, popularity, live, liked, MIX, 10)
    for user in range(300):
        scores = {
            item: 0.4 * float(profiles[user] @ vectors[item])
            + 0.3 * float(recent[user] @ vectors[item])
            + 0.5 * float(popularity[item])
            for item in range(60)
            if live[item] and item not in liked[user]
        }
        expected = sorted(scores, key=lambda item: -scores[item])[:10]
        assert slates.rows[user].tolist() == expected
        parts = slates.taste[user] + slates.recent[user] + slates.popular[user]
        np.testing.assert_allclose(parts, slates.scores[user], atol=1e-5)


def test_fewer_candidates_than_places() -> None:
    vectors = np.eye(3, dtype=np.float32)
    live = np.array([True, False, True])
    slates = best(vectors[:1], vectors[:1], vectors, np.zeros(3, np.float32), live, [np.array([0])], MIX, 5)
    assert slates.rows.tolist() == [[2, -1, -1, -1, -1]]
    empty = np.zeros((0, 3), np.float32)
    none = best(vectors[:1], vectors[:1], empty, np.zeros(0, np.float32), np.zeros(0, bool), [NONE], MIX, 5)
    assert none.rows.tolist() == [[-1] * 5]


def test_the_newest_liked_item_counts_most() -> None:
    vectors = np.eye(4, dtype=np.float32)
    interest = recent_interest(vectors, [np.array([0, 1, 2]), NONE], 2)
    assert interest[0][2] > interest[0][1] > interest[0][0] == 0
    assert not interest[1].any()


def test_evidence_is_the_nearest_liked_item() -> None:
    vectors = unit(np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32))
    nearest, cosine = evidence(vectors, np.array([1, 3]), np.array([2, 0]))
    assert nearest.tolist() == [0, 2]
    assert (cosine > 0.98).all()


def test_popularity_halves_and_is_independent_of_batches() -> None:
    day = 86_400_000
    whole, parts = Popularity(7 * day), Popularity(7 * day)
    whole.learn([0, 1, 1, 2], [0, 0, 14 * day, 14 * day], [4.0, 1.0, 1.0, -3.0])
    parts.learn([0, 1], [0, 0], [4.0, 1.0])
    parts.learn([1, 2], [14 * day, 14 * day], [1.0, -3.0])
    np.testing.assert_allclose(whole.scores(4), parts.scores(4))
    assert whole.sums[0] == pytest.approx(1.0)
    assert whole.sums[1] == pytest.approx(1.25)
    assert whole.scores(4).tolist() == pytest.approx([np.log1p(1.0) / np.log1p(1.25), 1, 0, 0])


def test_popularity_survives_its_snapshot() -> None:
    first = Popularity(1000.0)
    first.learn([0, 3], [5000, 9000], [1.0, 2.0])
    base, ids, sums = first.state(["a", "b", "c", "d"])
    second = Popularity(1000.0)
    second.restore(base, [{"a": 2, "d": 0}[name] for name in ids], sums)
    assert second.scores(3)[0] == first.scores(4)[3]
    assert second.scores(3)[2] == first.scores(4)[0]
