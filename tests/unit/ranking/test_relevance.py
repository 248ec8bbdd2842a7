"""A text is close to its user by what it shares with this user and not with all."""

from __future__ import annotations

import numpy as np

from upwell.ranking.relevance import Common, relevance

ALL, OWN = np.array([1, 0, 0], np.float32), np.array([0, 1, 0], np.float32)
PROFILE = np.array([3, 2, 0], np.float32)


def test_what_would_suit_anybody_is_not_close() -> None:
    common = Common()
    common.see(np.tile(ALL, (500, 1)))
    texts = np.stack([ALL, OWN])
    raw = relevance(texts, PROFILE, np.zeros(3, np.float32))
    assert raw[0] > raw[1]
    close = relevance(texts, PROFILE, common.mean)
    assert close[1] > close[0]


def test_the_first_user_is_not_taken_for_all() -> None:
    common = Common()
    common.see(PROFILE[None])
    close = relevance(np.stack([PROFILE / np.linalg.norm(PROFILE), -OWN]), PROFILE, common.mean)
    assert close[0] > 0.9 > close[1]


def test_profiles_of_any_length_count_alike_and_of_another_model_begin_anew() -> None:
    one, other = Common(), Common()
    one.see(np.stack([ALL, OWN]))
    other.see(np.stack([7 * ALL, 0.1 * OWN]))
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
    one.see(np.ones((1, 2), np.float32))
    assert one.mean.shape == (2,)
