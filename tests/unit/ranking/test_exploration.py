"""Exploration: the logged propensities are how often it happens, a replay shows the same, the budget is kept."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from upwell.ranking.chance import uniforms
from upwell.ranking.exploration import (
    Budget,
    Doubt,
    beliefs,
    explore,
    marginals,
    optimistic,
    pools,
    posterior,
    weights,
)

SLATE = np.array([[50, 51, 52, 53, 54]])
OFFERED = np.array([[1, 2, 3, -1]])


def _weight(pool: np.ndarray, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean = rng.normal(1.0, 0.3, pool.shape).astype(np.float32)
    spread = rng.uniform(0.05, 0.4, pool.shape).astype(np.float32)
    return weights(mean, spread, pool >= 0, 0.1)


def _weights_of(pool: np.ndarray, rates: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    lean, events = np.zeros(pool.shape, np.float32), np.full(len(pool), 9)
    return weights(*beliefs(rates, pool, lean, events, Doubt()), pool >= 0, 0.1)


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_marginals_are_sums_over_all_orders(positions):
    weight = _weight(np.arange(12).reshape(2, 6))
    found = marginals(weight, positions)
    for user in range(2):
        expected = np.zeros((positions, 6))
        for order in permutations(range(6), positions):
            chance, left = 1.0, 1.0
            for item in order:
                chance *= weight[user, item] / left
                left -= weight[user, item]
            for place, item in enumerate(order):
                expected[place, item] += chance
        np.testing.assert_allclose(found[user], expected, atol=1e-14)
    np.testing.assert_allclose(found.sum(axis=2), 1)
    assert found[:, 0].min() > 0.1 / 6 - 1e-12


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_logged_propensities_are_the_frequencies(positions):
    draws = 40_000
    pool = pools(SLATE, OFFERED, positions)
    weight = np.repeat(_weight(pool), draws, axis=0)
    found = explore(
        np.repeat(SLATE, draws, axis=0), np.repeat(pool, draws, axis=0), weight,
        np.arange(draws, dtype=np.uint64), np.full(draws, 7), Budget(share=0.5, positions=positions, floor=0.1),
    )  # fmt: skip
    assert found.drawn.mean() == pytest.approx(0.5, abs=0.01)
    for place in range(5):
        for row in np.unique(found.rows[:, place]):
            here = found.rows[:, place] == row
            said = np.unique(found.propensity[here, place].round(12))
            assert len(said) == 1  # the same item at the same place has one propensity, drawn or not
            error = np.sqrt(said[0] * (1 - said[0]) / draws)
            assert abs(here.mean() - said[0]) <= 4.5 * error
    for slate in np.unique(found.rows, axis=0):
        here = (found.rows == slate).all(axis=1)
        said = found.prefix[here, -1]
        np.testing.assert_allclose(said, said[0])
        if said[0] * draws > 10:  # rarer ones are not near to normal
            assert abs(here.mean() - said[0]) <= 4.5 * np.sqrt(said[0] * (1 - said[0]) / draws)


def test_propensities_of_everything_that_may_be_shown_sum_to_one():
    pool = pools(SLATE, OFFERED, 2)
    weight = _weight(pool)
    seen: dict[tuple[int, ...], float] = {}
    for key in range(5_000):
        found = explore(SLATE, pool, weight, np.array([key], np.uint64), np.array([0]), Budget(0.9, 2, 0.5))
        seen[tuple(found.rows[0].tolist())] = float(found.prefix[0, -1])
    assert len(seen) == 5 * 4
    assert sum(seen.values()) == pytest.approx(1)


def test_a_replay_shows_the_same_and_batches_do_not_matter():
    rng = np.random.default_rng(5)
    slates = np.tile(SLATE, (200, 1))
    pool = pools(slates, rng.permuted(np.tile(np.arange(10), (200, 1)), axis=1), 2)
    rates = posterior(rng.uniform(0, 10, 60), rng.uniform(10, 90, 60), Doubt())
    weight = _weights_of(pool, rates)
    keys, versions = rng.integers(0, 2**63, 200).astype(np.uint64), np.arange(200)
    whole = explore(slates, pool, weight, keys, versions, Budget())
    for user in range(200):
        one = slice(user, user + 1)
        assert _weights_of(pool[one], rates).tolist() == weight[one].tolist()
        alone = explore(slates[one], pool[one], weight[one], keys[one], versions[one], Budget())
        assert alone.rows[0].tolist() == whole.rows[user].tolist()
        assert alone.propensity[0].tolist() == whole.propensity[user].tolist()
    later = explore(slates, pool, weight, keys, versions + 1, Budget())
    assert (later.rows != whole.rows).any()


def test_the_budget_is_kept():
    slates = np.tile(SLATE, (5_000, 1))
    pool = pools(slates, np.tile(OFFERED, (5_000, 1)), 2)
    weight, keys = _weight(pool), np.arange(5_000, dtype=np.uint64)
    versions = np.zeros(5_000, int)
    found = explore(slates, pool, weight, keys, versions, Budget(share=0.1, positions=2))
    assert (found.rows[:, :3] == slates[:, :3]).all()
    assert (found.propensity[:, :3] == 1).all()
    assert 0.08 < found.drawn.mean() < 0.12
    assert (found.rows[~found.drawn] == slates[~found.drawn]).all()
    for budget in (Budget(share=0.0), Budget(positions=0)):
        untouched = explore(slates, pool, weight, keys, versions, budget)
        assert (untouched.rows == slates).all()
        np.testing.assert_allclose(untouched.propensity, 1)


def test_no_weight_of_an_offered_item_is_below_the_floor():
    pool = np.arange(8)[None]
    mean = np.array([[3.0, *[0.1] * 7]], np.float32)
    weight = weights(mean, np.full((1, 8), 0.01, np.float32), pool >= 0, 0.2)
    assert weight.min() == pytest.approx(0.2 / 8)
    assert weight.max() == pytest.approx(0.8 + 0.2 / 8)


def test_slates_that_lack_items_and_empty_pools_stay_as_they_are():
    slates = np.array([[4, 5, -1], [4, 5, 6], [-1, -1, -1]])
    pool = pools(slates, np.full((3, 2), -1), 2)
    weight = weights(np.ones(pool.shape, np.float32), np.ones(pool.shape, np.float32), pool >= 0, 0.1)
    found = explore(slates, pool, weight, np.arange(3, dtype=np.uint64), np.zeros(3, int), Budget(1.0, 2, 0.1))
    assert found.rows[[0, 2]].tolist() == slates[[0, 2]].tolist()
    assert found.propensity[[0, 2]].tolist() == [[1.0] * 3] * 2
    assert sorted(found.rows[1].tolist()) == [4, 5, 6]
    assert found.propensity[1].tolist() == pytest.approx([1, 0.5, 0.5])
    none = np.zeros((0, 3), np.int64)
    assert not len(explore(none, none, np.zeros((0, 3)), np.zeros(0, np.uint64), np.zeros(0, int), Budget()).rows)


def test_a_slate_shorter_than_the_budget_is_explored_whole():
    slates = np.array([[4, 5]])
    pool = pools(slates, np.array([[7, 8]]), 3)
    assert pool.tolist() == [[4, 5, 7, 8]]
    shown = {
        tuple(
            explore(
                slates, pool, np.full((1, 4), 0.25), np.array([key], np.uint64), np.array([0]), Budget(1.0, 3, 0.5)
            ).rows[0]
        )
        for key in range(300)
    }
    assert len(shown) == 4 * 3


def test_offered_items_that_the_slate_holds_are_not_offered_twice():
    assert pools(SLATE, np.array([[54, 7, 50]]), 2).tolist() == [[53, 54, -1, 7, -1]]


def test_weights_are_near_to_thompson_sampling():
    rng = np.random.default_rng(1)
    liked, shown = rng.integers(0, 40, 12), rng.integers(40, 200, 12)
    liked[:3], shown[:3] = [0, 1, 1], [0, 1, 2]  # new items among well-known ones
    doubt = Doubt(rate=0.2)
    mean, spread = posterior(liked.astype(float), shown.astype(float), doubt)
    found = weights(mean[None], spread[None], np.ones((1, 12), bool), 1e-9)[0]
    prior = doubt.strength * doubt.rate
    drawn = rng.beta(liked + prior, shown - liked + doubt.strength - prior, (100_000, 12)).argmax(axis=1)
    thompson = np.bincount(drawn, minlength=12) / len(drawn)
    assert abs(found - thompson).sum() / 2 < 0.1  # total variation
    assert found.argmax() == thompson.argmax()


def test_what_is_uncertain_is_explored_more():
    mean, spread = posterior(np.array([20.0, 20.0, 0.0]), np.array([100.0, 100.0, 0.0]), Doubt(rate=0.15))
    assert spread[2] > 3 * spread[0]
    assert mean[2] < mean[0]
    found = weights(mean[None], spread[None], np.ones((1, 3), bool), 1e-9)[0]
    certain = weights(mean[None], np.full((1, 3), spread[0]), np.ones((1, 3), bool), 1e-9)[0]
    assert found[2] > 2 * certain[2]


def test_a_new_user_is_explored_for_more_widely():
    known = posterior(np.array([60.0, 40.0, 20.0]), np.array([200.0, 200.0, 200.0]), Doubt())
    pool = np.array([[2, 0, 1], [2, 0, 1]])
    lean = np.zeros((2, 3), np.float32)
    mean, spread = beliefs(known, pool, lean, np.array([0, 400]), Doubt())
    new, old = weights(mean, spread, np.ones((2, 3), bool), 1e-9)
    assert new.argmax() == old.argmax() == 1
    assert old.max() > new.max() + 0.2
    lean[:, 0] = 1.0  # this user is thought to like the first item more than everybody does
    assert weights(*beliefs(known, pool, lean, np.array([400, 400]), Doubt()), pool >= 0, 1e-9)[0].argmax() == 0


def test_optimism_offers_live_items_of_high_mean_or_high_doubt():
    mean, spread = np.array([0.9, 0.5, 0.5, 2.0], np.float32), np.array([0.1, 0.1, 0.6, 0.1], np.float32)
    assert optimistic(mean, spread, np.array([True, True, True, False]), 3).tolist() == [2, 0, 1]
    assert optimistic(mean, spread, np.zeros(4, bool), 3).tolist() == []


def test_impossible_budgets_are_refused():
    for wrong in ({"share": 1.2}, {"positions": 4}, {"floor": 0.0}):
        with pytest.raises(ValueError, match="within"):
            Budget(**wrong)


def test_uniforms_are_uniform_and_unrelated():
    found = uniforms(np.arange(20_000, dtype=np.uint64), np.zeros(20_000, int), 3)
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.stack([np.histogram(column, 20, (0, 1))[0] for column in found.T])
    assert ((counts - 1_000) ** 2 / 1_000).sum(axis=1).max() < 50  # chi-square, 19 degrees of freedom
    assert abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.03
    next_version = uniforms(np.arange(20_000, dtype=np.uint64), np.ones(20_000, int), 1)[:, 0]
    assert abs(np.corrcoef(found[:, 0], next_version)[0, 1]) < 0.03
    assert abs(np.corrcoef(found[1:, 0], next_version[:-1])[0, 1]) < 0.03
