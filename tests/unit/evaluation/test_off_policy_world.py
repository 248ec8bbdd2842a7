"""The worlds in which truth is known: the truth is what the judged policy earns, and estimates find it where they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upwell.evaluation.off_policy import Assumption, estimates
from upwell.evaluation.off_policy_world import Figures, Judged, Nature, World, measure

LOGS = 40


@pytest.mark.parametrize("nature", list(Nature))
def test_the_truth_is_what_the_judged_policy_earns(nature):
    world = World(nature, Judged.MODEL, 5)
    truth = world.truth()
    world.logging = world.judged  # the judged policy shows slates itself
    earned = world.log(20_000, 1)[Assumption.INDEPENDENCE].reward.reshape(20_000, -1).sum(axis=1)
    assert earned.mean() == pytest.approx(truth, abs=4 * earned.std() / np.sqrt(20_000))


@pytest.mark.parametrize("assumption", [Assumption.INDEPENDENCE, Assumption.CASCADE])
def test_predictions_are_averaged_over_what_the_judged_policy_may_show(assumption):
    # Where all items of a position are predicted alike, so is their mean: the chances that average them sum to 1.
    log = World(Nature.CASCADE, Judged.BUDGET, 5).log(500, 2)[assumption]
    assert log.expected is not None
    assert log.predicted is not None
    for position in range(3):
        here = log.position == position
        low, high = log.predicted[here].min(), log.predicted[here].max()
        assert (log.expected[here] >= low - 0.1).all()
        assert (log.expected[here] <= high + 0.1).all()
    right = {each.estimator: each for each in estimates(log, assumption)}
    blind = replace(log, predicted=np.zeros(len(here)), expected=np.zeros(len(here)))
    plain = {each.estimator: each for each in estimates(blind, assumption)}
    assert plain["dr"].value == pytest.approx(plain["ips"].value)
    assert right["dr"].error < plain["dr"].error


def figures(nature: Nature, slates: int = 800) -> dict[tuple[Assumption, str, bool], Figures]:
    found = measure(nature, Judged.BUDGET, LOGS, slates, resamples=60, seed=7)
    return {(each.assumption, each.estimator, bool(np.isfinite(each.clip))): each for each in found}


def test_of_single_actions_weighted_estimators_are_right_and_predictions_alone_are_not():
    found = figures(Nature.SINGLE)
    for name in ("ips", "snips", "dr", "sndr"):
        each = found[Assumption.INDEPENDENCE, name, False]
        assert abs(each.bias) < 4 * each.bias_error + 0.01 * each.truth
        assert min(each.coverage, each.coverage_bootstrap) > 0.75  # of 40 logs with few effective slates
    direct = found[Assumption.INDEPENDENCE, "dm", False]
    assert abs(direct.bias) > 4 * direct.bias_error
    assert direct.coverage < 0.5


def test_a_broken_assumption_is_seen_and_a_true_one_is_right():
    found = figures(Nature.COMPARING)
    broken, true = found[Assumption.INDEPENDENCE, "snips", False], found[Assumption.SLATE, "snips", False]
    assert broken.bias > 4 * broken.bias_error
    assert abs(true.bias) < 4 * true.bias_error + 0.02 * true.truth
    assert broken.effective > 1.5 * true.effective  # what the weaker assumption costs


def test_clipping_trades_variance_for_bias():
    found = figures(Nature.CASCADE)
    whole, clipped = found[Assumption.CASCADE, "ips", False], found[Assumption.CASCADE, "ips", True]
    assert clipped.width < whole.width
    assert clipped.bias < -5 * clipped.bias_error
    assert abs(whole.bias) < 4 * whole.bias_error
