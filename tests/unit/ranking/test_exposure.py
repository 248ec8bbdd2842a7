"""Exposure: how unequal it is, and which groups get more than their part."""

from __future__ import annotations

import math

import numpy as np
import pytest

from upwell.ranking.exposure import by_group, by_popularity, exposure, gini
from upwell.ranking.groups import Groups


def test_exposure_falls_with_the_place() -> None:
    found = exposure(np.array([[2, 0, -1], [2, 1, 0]]), 4)
    np.testing.assert_allclose(found, [1 / math.log2(3) + 0.5, 1 / math.log2(3), 2, 0])


def test_gini_is_half_the_mean_difference_over_the_mean() -> None:
    values = np.random.default_rng(1).gamma(0.5, size=200)
    plain = np.abs(values[:, None] - values).mean() / 2 / values.mean()
    assert gini(values) == pytest.approx(plain)
    assert gini(np.ones(7)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 5.0])) == pytest.approx(0.75)
    assert math.isnan(gini(np.zeros(3)))


def test_groups_in_proportion_and_not() -> None:
    groups = Groups.of([["a"], ["a"], ["b"], ["a", "b"], []])
    found = by_group(np.array([3.0, 1, 1, 2, 9]), np.array([1.0, 1, 4, 0, 9]), groups)
    assert found.names == ["a", "b"]
    np.testing.assert_allclose(found.exposure, [5 / 7, 2 / 7])
    np.testing.assert_allclose(found.per_item, [5 / 7 / (2.5 / 4), 2 / 7 / (1.5 / 4)])
    np.testing.assert_allclose(found.per_consumption, [5 / 7 / (2 / 6), 2 / 7 / (4 / 6)])


def test_deciles_of_popularity() -> None:
    rng = np.random.default_rng(2)
    popularity = rng.permutation(np.repeat(np.arange(10.0), 10))
    ties = rng.permutation(100).astype(np.uint64)
    found = by_popularity(popularity, np.where(popularity == 9, 1.0, 0), popularity, ties)
    np.testing.assert_allclose(found.items, 0.1)
    np.testing.assert_allclose(found.exposure, np.arange(10) / 45)
    assert np.isnan(found.per_consumption[:9]).all()
    assert found.per_consumption[9] == pytest.approx(0.2)
    # All equal: the hash decides, and the deciles stay equal in size.
    even = by_popularity(np.ones(100), np.ones(100), np.zeros(100), ties)
    np.testing.assert_allclose(even.per_item, 1)
