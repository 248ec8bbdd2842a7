"""Exploring among a user's candidates: propensities are frequencies, what is not allowed is not drawn, a replay draws the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upwell.ranking import learner
from upwell.ranking.exploration import Budget
from upwell.ranking.explorer import Explorer, Pools
from upwell.ranking.learner import SCORERS, Shared, Tuning
from upwell.ranking.ranker import Chosen

PLACES = 5
CANDIDATES = 12
USERS = 40_000


@pytest.fixture(scope="module")
def shared() -> Shared:
    made = learner.new(64, Tuning())
    rng = np.random.default_rng(1)
    made.counts[:] = rng.integers(0, 60, 64)
    made.likes[:] = rng.binomial(made.counts.astype(int), 0.4)
    return made


def candidates(seed: int = 0, count: int = CANDIDATES) -> Chosen:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.normal(size=count).astype(np.float32))[::-1]
    contributions = np.zeros((count, len(SCORERS) + 1), np.float32)
    contributions[:, 0] = scores
    return Chosen(rng.permutation(64)[:count].astype(np.int64), scores, contributions)


def pools(explorer: Explorer, shared: Shared, users: list[Chosen], **more: object) -> Pools:
    slates = [np.arange(min(PLACES, len(one.rows))) for one in users]
    allowed = more.get("allowed")
    events = np.full(len(users), more.get("events", 10))
    return explorer.pools(users, slates, allowed, events, shared)  # type: ignore[arg-type]


def repeated(made: Pools, users: int) -> Pools:
    """The same user's pool again and again: numbers are those of the first one, which is what rows are told of."""
    return replace(
        made,
        slates=np.repeat(made.slates, users, axis=0),
        pool=np.repeat(made.pool, users, axis=0),
        weight=np.repeat(made.weight, users, axis=0),
        able=np.repeat(made.able, users),
    )


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_the_stated_propensities_are_the_frequencies(shared: Shared, positions: int) -> None:
    explorer = Explorer(Budget(0.4, positions, 0.2), PLACES)
    one = pools(explorer, shared, [candidates()])
    found = explorer.draw(repeated(one, USERS), np.arange(USERS, dtype=np.uint64), np.full(USERS, 3, np.uint64))
    assert (found.rows[:, : PLACES - positions] == np.arange(PLACES - positions)).all()
    assert (found.propensity[:, : PLACES - positions] == 1).all()
    total = np.zeros(PLACES)
    for candidate in range(CANDIDATES):
        stated = explorer.chances(one, np.array([candidate]))[0]
        total += stated
        for place in range(PLACES - positions, PLACES):
            here = found.rows[:, place] == candidate
            np.testing.assert_allclose(found.propensity[here, place], stated[place], atol=1e-12)
            error = np.sqrt(stated[place] * (1 - stated[place]) / USERS)
            assert abs(here.mean() - stated[place]) <= 4.5 * error
    np.testing.assert_allclose(total, 1)
    assert abs(found.drawn.mean() - 0.4) < 0.01


def test_what_is_not_allowed_is_not_drawn_unless_it_is_the_slates_own(shared: Shared) -> None:
    explorer = Explorer(Budget(0.49, 2, 0.9), PLACES)
    allowed = np.zeros(CANDIDATES, bool)
    allowed[7] = True
    made = repeated(pools(explorer, shared, [candidates()], allowed=[allowed]), 2_000)
    found = explorer.draw(made, np.arange(2_000, dtype=np.uint64), np.zeros(2_000, np.uint64))
    assert set(np.unique(found.rows[:, 3:]).tolist()) == {3, 4, 7}


def test_a_slate_that_is_short_or_all_that_there_is_stays_as_it_is(shared: Shared) -> None:
    explorer = Explorer(Budget(0.49, 2), PLACES)
    users = [candidates(1, 3), candidates(2, PLACES), candidates(3)]
    made = pools(explorer, shared, users)
    assert made.able.tolist() == [False, False, True]
    found = explorer.draw(made, np.arange(3, dtype=np.uint64), np.zeros(3, np.uint64))
    assert found.rows[0].tolist() == [0, 1, 2, -1, -1]
    assert found.rows[1].tolist() == [0, 1, 2, 3, 4]
    assert (found.propensity[:2] == 1).all()
    assert found.propensity[2, -1] < 1
    assert explorer.chances(made, np.array([1, 4, -1])).tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5]


def test_the_first_place_is_never_drawn() -> None:
    assert Explorer(Budget(0.4, 3), 2).budget.positions == 1
    assert not Explorer(Budget(0.4, 3), 1).on
    assert not Explorer(Budget(0.0, 3), 5).on


def test_a_replay_draws_the_same_in_any_company(shared: Shared) -> None:
    explorer = Explorer(Budget(0.4, 2), PLACES)
    users = [candidates(n, 8 + n % 5) for n in range(100)]
    keys, numbers = np.arange(100, dtype=np.uint64) * 7919, np.arange(100, dtype=np.uint64)
    whole = explorer.draw(pools(explorer, shared, users), keys, numbers)
    assert whole.drawn.any()
    for user in range(100):
        one = slice(user, user + 1)
        alone = explorer.draw(pools(explorer, shared, users[one]), keys[one], numbers[one])
        assert alone.rows[0].tolist() == whole.rows[user].tolist()
        assert alone.propensity[0].tolist() == whole.propensity[user].tolist()


def test_more_is_drawn_where_less_is_known(shared: Shared) -> None:
    """Of two items alike in score and like-rate the one of fewer events; and of all, for users of fewer events."""
    explorer = Explorer(Budget(0.4, 1, 0.01), PLACES)
    one = candidates(5)
    rows, likes = one.rows[[7, 8]], np.float32(0.4)
    shared.counts[rows], shared.likes[rows] = (400, 2), (400 * likes, 2 * likes)
    one.contributions[8] = one.contributions[7]

    def chance(candidate: int, events: int) -> float:
        made = pools(explorer, shared, [one], events=events)
        return float(explorer.chances(made, np.array([candidate]))[0, -1])

    assert chance(8, 200) > 2 * chance(7, 200)
    others = range(PLACES, CANDIDATES)
    shared.counts[:], shared.likes[:] = 1_000, 400
    assert sum(chance(n, 0) for n in others) > sum(chance(n, 2_000) for n in others)
