"""Off-policy estimators: the values of the Open Bandit Pipeline, errors that resampling confirms, and diagnostics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upwell.evaluation.off_policy import Assumption, Log, estimates, support, weights

RECORDED = json.loads(Path(__file__).with_name("obp_0.5.5.json").read_text())


def single() -> Log:
    recorded = {name: np.array(value) for name, value in RECORDED["single"].items() if name not in {"clip", "values"}}
    rows, action = np.arange(len(recorded["action"])), recorded["action"]
    return Log(
        rows, np.zeros_like(rows), recorded["reward"], recorded["propensity"], recorded["target"][rows, action],
        recorded["predicted"][rows, action], (recorded["target"] * recorded["predicted"]).sum(axis=1),
    )  # fmt: skip


def slates(assumption: Assumption) -> Log:
    recorded = {name: np.array(value) for name, value in RECORDED["slates"].items() if name != "values"}
    count, places = recorded["action"].shape
    suffix = "" if assumption is Assumption.INDEPENDENCE else "_prefix"
    predicted = np.take_along_axis(recorded["predicted"], recorded["action"][:, :, None], axis=2)
    expected = (recorded["target_given_above"] * recorded["predicted"]).sum(axis=2)
    log = Log(
        np.repeat(np.arange(count), places), np.tile(np.arange(places), count), recorded["reward"].ravel(),
        recorded["propensity" + suffix].ravel(), recorded["target" + suffix].ravel(),
    )  # fmt: skip
    cascade = assumption is Assumption.CASCADE
    return replace(log, predicted=predicted.ravel(), expected=expected.ravel()) if cascade else log


def shuffled(log: Log, seed: int = 4) -> Log:
    order = np.random.default_rng(seed).permutation(len(log.slate))
    columns = {name: getattr(log, name) for name in log.__slots__ if name != "cluster"}
    return replace(log, **{name: None if column is None else column[order] for name, column in columns.items()})


def test_single_actions_as_in_obp():
    recorded = RECORDED["single"]
    plain = {each.estimator: each.value for each in estimates(single())}
    clipped = {each.estimator: each.value for each in estimates(single(), clip=recorded["clip"])}
    for name in ("ips", "snips", "dm", "dr", "sndr"):
        assert plain[name] == pytest.approx(recorded["values"][name], abs=1e-9, rel=0)
    for name in ("ips", "dr"):
        assert clipped[name] == pytest.approx(recorded["values"][name + "_clipped"], abs=1e-9, rel=0)


@pytest.mark.parametrize("assumption", list(Assumption))
def test_slates_as_in_obp_whatever_the_order_of_rows(assumption):
    recorded = RECORDED["slates"]["values"][assumption]
    for log in (slates(assumption), shuffled(slates(assumption))):
        found = {each.estimator: each.value for each in estimates(log, assumption)}
        assert recorded.keys() <= found.keys()
        for name, value in recorded.items():
            assert found[name] == pytest.approx(value, abs=1e-9, rel=0)


@pytest.mark.parametrize("assumption", list(Assumption))
def test_intervals_agree_with_each_other(assumption):
    rng = np.random.default_rng(9)
    many = slates(assumption)
    chosen = rng.integers(0, 30, 400)
    rows = (chosen[:, None] * 3 + np.arange(3)).ravel()
    columns = {name: getattr(many, name) for name in many.__slots__ if name not in {"slate", "cluster"}}
    log = Log(
        np.repeat(np.arange(400), 3), **{k: None if v is None else v[rows] for k, v in columns.items()}
    )  # fmt: skip
    for each in estimates(log, assumption, resamples=2_000, seed=1):
        assert each.normal[0] < each.value < each.normal[1]
        width = each.normal[1] - each.normal[0]
        assert each.bootstrap[1] - each.bootstrap[0] == pytest.approx(width, rel=0.12)
        assert each.bootstrap[0] == pytest.approx(each.normal[0], abs=0.12 * width)


def test_the_error_of_ips_is_that_of_a_mean():
    log = single()
    values = log.target / log.propensity * log.reward
    ips = next(each for each in estimates(log) if each.estimator == "ips")
    assert ips.error == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)))


def test_slates_of_the_same_user_count_as_one_observation():
    log = single()
    twice = Log(*(np.tile(getattr(log, name), 2) for name in log.__slots__ if name != "cluster"))  # type: ignore[arg-type]
    twice = replace(twice, slate=np.arange(80))
    naive = {each.estimator: each for each in estimates(twice)}
    users = {each.estimator: each for each in estimates(replace(twice, cluster=np.tile(np.arange(40), 2)))}
    once = {each.estimator: each for each in estimates(log)}
    for name, each in once.items():
        assert users[name].value == pytest.approx(each.value)
        assert users[name].error == pytest.approx(each.error)
        assert naive[name].error < 0.75 * each.error


def test_judging_the_logging_policy_itself_gives_what_was_earned():
    log = single()
    same = replace(log, target=log.propensity)
    for each in estimates(same):
        if each.estimator in {"ips", "snips"}:
            assert each.value == pytest.approx(log.reward.mean())
    (found,) = support(same, Assumption.INDEPENDENCE)
    assert (found.effective, found.mean_weight, found.clipped) == (pytest.approx(40), 1, 0)


def test_a_position_that_some_slates_lack_counts_as_nothing_earned():
    log = Log(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 1, 0]), np.ones(3), np.ones(3))
    for each in estimates(log):
        assert each.value == pytest.approx(1.0)


def test_weights_of_slates():
    log = Log(
        np.array([1, 0, 0, 1]), np.array([0, 1, 0, 1]), np.zeros(4),
        np.array([0.5, 0.1, 0.2, 0.05]), np.array([0.5, 0.2, 0.1, 0.2]),
    )  # fmt: skip
    single, above = weights(log, Assumption.INDEPENDENCE)
    assert single.tolist() == pytest.approx([1, 2, 0.5, 4])
    assert above.tolist() == [1, 1, 1, 1]
    assert weights(log, Assumption.CASCADE)[1].tolist() == pytest.approx([1, 0.5, 1, 1])
    assert weights(log, Assumption.SLATE)[0].tolist() == pytest.approx([4, 2, 2, 4])
    assert weights(log, Assumption.SLATE, clip=3)[0].tolist() == pytest.approx([3, 2, 2, 3])


def test_wrong_propensities_are_seen():
    rng = np.random.default_rng(2)
    log = Log(np.arange(2_000), np.zeros(2_000, int), np.zeros(2_000), np.full(2_000, 0.5), rng.uniform(0, 1, 2_000))
    (right,) = support(log, Assumption.INDEPENDENCE)
    (wrong,) = support(replace(log, propensity=np.full(2_000, 0.4)), Assumption.INDEPENDENCE, clip=2.0)
    assert abs(right.off_by) < 4 < wrong.off_by
    assert wrong.clipped == pytest.approx(0.2, abs=0.05)
    assert right.effective < 2_000
