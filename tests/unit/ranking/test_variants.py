"""Variants of an experiment: shares are kept, a user's variant stays, experiments do not know each other."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.variants import Experiment

KEYS = np.random.default_rng(0).integers(0, 2**63, 50_000).astype(np.uint64)


def test_shares_are_kept():
    found = Experiment(17, ["control", "a", "b"], [0.5, 0.3, 0.1]).variants(KEYS)
    counts = np.bincount(found + 1) / len(KEYS)
    assert counts.tolist() == pytest.approx([0.1, 0.5, 0.3, 0.1], abs=0.01)


def test_consecutive_keys_are_shared_out_as_well():
    found = Experiment(17, ["control", "a"], [0.5, 0.5]).variants(np.arange(50_000, dtype=np.uint64))
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02


def test_a_user_has_the_same_variant_at_all_times_and_a_larger_last_variant_moves_nobody():
    small = Experiment(17, ["control", "a"], [0.1, 0.1]).variants(KEYS)
    large = Experiment(17, ["control", "a"], [0.1, 0.9]).variants(KEYS)
    assert (large[small >= 0] == small[small >= 0]).all()
    assert (large >= 0).all()
    assert (Experiment(17, ["control", "a"], [0.1, 0.1]).variants(KEYS[7:9]) == small[7:9]).all()


def test_experiments_share_out_users_independently():
    one = Experiment(17, ["control", "a"], [0.5, 0.5]).variants(KEYS)
    other = Experiment(18, ["control", "a"], [0.5, 0.5]).variants(KEYS)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("names", "shares"),
    [(["a"], [1.0]), (["a", "a"], [0.5, 0.5]), (["a", "b"], [0.9, 0.2]), (["a", "b"], [1.0, 0.0]), (["a", "b"], [1.0])],
)
def test_impossible_experiments_are_refused(names, shares):
    with pytest.raises(ValueError, match=r"variants|shares"):
        Experiment(1, names, shares)
