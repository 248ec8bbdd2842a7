"""First impressions of new items: each has its quota, and then no more; whom an item suits is shown it first."""

from __future__ import annotations

import numpy as np

from upwell.ranking.newcomers import NOBODY, FirstImpressions

NONE = np.zeros(0, np.int64)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def test_what_was_known_before_the_first_statistics_is_not_new() -> None:
    held = FirstImpressions(quota=2, share=0.5)
    since = np.array([5, 20, 30])
    few = np.arange(3)
    assert held.owed(few, since).tolist() == []  # a first load of a catalogue: nothing was learned yet
    held.began = 10
    assert held.owed(few, since).tolist() == [1, 2]
    held.learn(2, 2)
    assert held.owed(few, since).tolist() == [1]
    assert FirstImpressions(quota=0, share=0.5).owed(few, since).tolist() == []


def test_each_new_item_has_its_quota_and_not_more() -> None:
    chance = np.random.default_rng(4)
    vectors = unit(chance.normal(size=(6, 8)))
    held = FirstImpressions(quota=20, share=0.25)
    left = np.full(6, held.quota)
    given = np.zeros(6, int)
    rankings = 0
    while left.any():
        users = chance.normal(size=(10, 8)).astype(np.float32)
        for item in held.choose(users, vectors, left, [NONE] * 10):
            if item != NOBODY:
                given[item] += 1
        rankings += 10
    assert given.tolist() == [20] * 6
    # 120 impressions at a quarter of the rankings; more while the bound is still looked for.
    assert rankings <= 1000


def test_an_item_is_shown_to_those_whom_it_suits() -> None:
    chance = np.random.default_rng(5)
    vectors = unit(chance.normal(size=(3, 8)))
    held = FirstImpressions(quota=10_000, share=0.2)
    left = np.full(3, held.quota)
    all_, own = [], []
    for _ in range(400):
        users = unit(chance.normal(size=(5, 8)) + 0.7)  # what all have in common makes nobody an audience
        cosines = users @ vectors.T
        for user, item in enumerate(held.choose(users, vectors, left, [NONE] * 5)):
            all_ += cosines[user].tolist()
            if item != NOBODY:
                own.append(cosines[user, item])
    assert 0.15 < len(own) / 2000 < 0.27
    assert np.mean(own) > np.quantile(all_, 0.8)


def test_nobody_is_given_what_is_barred_and_users_without_an_interest_nothing() -> None:
    held = FirstImpressions(quota=5, share=0.5)
    held.bound = -9
    vectors = unit(np.eye(2))
    users = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
    left = np.array([5, 5])
    assert held.choose(users, vectors, left, [NONE, NONE, np.array([0, 1])]).tolist() == [0, NOBODY, NOBODY]
    assert left.tolist() == [4, 5]
