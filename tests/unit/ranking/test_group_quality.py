"""Quality by user group: the intervals hold what they promise, and a group that is served worse is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from upwell.ranking.group_quality import _student, by_group


def test_student_quantiles() -> None:
    for freedom in (3, 5, 10, 30, 1000):
        for level in (0.9, 0.95, 0.99):
            assert _student(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=0.04)


def test_intervals_cover_the_truth_though_users_differ() -> None:
    """Users' own rates spread, and those with more events have higher ones: intervals over events would be far too narrow."""
    rng = np.random.default_rng(5)
    covered = gaps = 0
    size = rng.integers(1, 40, 4000)
    rate = np.clip(0.1 + size / 200 + rng.normal(0, 0.1, 4000), 0, 1)
    truth = float((size * rate).sum() / size.sum())
    for _ in range(400):
        picked = rng.integers(0, 4000, 80)
        users = np.repeat(np.arange(80), size[picked])
        values = (rng.random(len(users)) < rate[picked][users]).astype(float)
        found = by_group(values, users, np.arange(80) % 2, 2)
        covered += sum(one.low <= truth <= one.high for one in found)
        gaps += found[0].gap_low <= 0 <= found[0].gap_high
    assert 0.92 <= covered / 800 <= 0.98
    assert 0.92 <= gaps / 400 <= 0.98


def test_a_group_that_is_served_worse_is_found() -> None:
    rng = np.random.default_rng(6)
    users = np.repeat(np.arange(600), 10)
    group = np.arange(600) % 3
    values = (rng.random(6000) < np.array([0.2, 0.2, 0.1])[group[users]]).astype(float)
    found = by_group(values, users, group, 3, 1 - 0.05 / 3)
    assert [one.worse for one in found] == [False, False, True]
    assert [(one.users, one.events) for one in found] == [(200, 2000)] * 3
    assert found[2].mean == pytest.approx(values[group[users] == 2].mean())


def test_too_few_users_have_a_mean_and_no_interval() -> None:
    found = by_group(np.array([1.0, 0, 1]), np.array([0, 0, 1]), np.array([0, -1, 1]), 3)
    assert (found[0].mean, found[0].users, found[0].gap) == (0.5, 1, -0.5)
    assert math.isnan(found[0].low)
    assert not found[0].worse
    assert (found[1].users, found[2].users) == (0, 0)
    assert math.isnan(found[1].mean)
