"""Drift: alarms where something moved, and only as many as promised where nothing did."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.drift import LARGE, PageHinkley, chance_level, counts, edges, shifted, stability


def test_the_index_is_zero_without_a_shift_and_its_formula_with_one() -> None:
    assert stability(np.array([50, 50]), np.array([500, 500])) == pytest.approx(0)
    found = stability(np.array([5000, 5000]), np.array([8000, 2000]))
    assert found == pytest.approx(0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5), rel=1e-3)
    assert np.isfinite(stability(np.array([10, 0]), np.array([0, 10])))


def test_bins_stay_those_of_the_reference() -> None:
    reference = np.random.default_rng(1).normal(size=10_000)
    inner = edges(reference)
    assert np.ptp(counts(reference, inner)) <= 1
    assert counts(np.array([-99.0, 99.0]), inner).tolist() == [1, *[0] * 8, 1]
    # Half of the values are one and the same: fewer bins, none of them empty.
    assert len(edges(np.concatenate([np.zeros(500), np.arange(500.0)]))) < 9
    for bad in (np.zeros(0), np.array([np.nan])):
        with pytest.raises(ValueError, match="finite"):
            edges(bad)


def test_samples_that_did_not_shift_rarely_exceed_the_chance_level() -> None:
    rng = np.random.default_rng(2)
    inner = edges(rng.normal(size=100_000))
    over = 0
    for _ in range(2000):
        a, b = counts(rng.normal(size=200), inner), counts(rng.normal(size=80), inner)
        over += stability(a, b) > chance_level(a, b, 0.01)
    assert over / 2000 < 0.02


def test_a_shift_is_told_and_a_small_sample_is_not_taken_for_one() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=5000)
    inner = edges(reference)
    expected = counts(reference, inner)
    assert shifted(expected, counts(rng.normal(0.8, size=2000), inner))
    assert not shifted(expected, counts(rng.normal(0.1, size=2000), inner))
    few = counts(rng.normal(size=20), inner)
    assert stability(expected, few) > LARGE
    assert not shifted(expected, few)


def test_a_mean_that_moves_is_noticed_soon_and_its_direction_told() -> None:
    for move in (0.5, -0.5):
        delays = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            watch = PageHinkley()
            assert not any(watch.add(value) for value in rng.normal(0.3, 1, 2000))
            told = (watch.add(value) for value in rng.normal(0.3 + move, 1, 500))
            at, found = next((number, sign) for number, sign in enumerate(told) if sign)
            assert found == np.sign(move)
            delays.append(at)
        assert np.mean(delays) == pytest.approx(25 / (0.5 - 0.25), rel=0.3)


def test_nothing_is_told_of_a_mean_that_stays() -> None:
    watch = PageHinkley()
    hits = np.random.default_rng(7).random((2000, 100)) < 0.1
    assert not any(watch.add(value) for value in hits.mean(axis=1))
    constant = PageHinkley()
    assert not any(constant.add(1.0) for _ in range(1000))


def test_false_alarms_are_as_rare_as_said() -> None:
    """With a threshold low enough for some to be counted: 12 says one in 2,844."""
    rng = np.random.default_rng(4)
    alarms = values = 0
    for _ in range(30):
        watch = PageHinkley(slack=0.25, threshold=12.0, least=2000)
        for value in rng.normal(size=2000):
            watch.add(value)
        for value in rng.normal(size=20_000):
            values += 1
            if watch.add(value):
                alarms += 1
                break
    assert values / alarms == pytest.approx(2844, rel=0.5)


def test_a_value_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        PageHinkley().add(float("nan"))
