"""Sequential comparison: errors stay bounded although somebody looks all the time, and differences are found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from upwell.evaluation.experiment import (
    LEAST,
    Outcomes,
    against,
    compare,
    mixture,
    report,
    shares_as_planned,
    sharing,
    table,
    words,
)

PLANNED, ALPHA = 2_000, 0.05
LOOKS = range(LEAST, 4_001, 50)


def looked_at(control: np.ndarray, other: np.ndarray, true: float) -> tuple[bool, bool, bool]:
    """Whether the p-value ever fell below alpha, an interval ever missed the truth, an ordinary test ever rejected."""
    mixed, sums = mixture(PLANNED, ALPHA), [np.cumsum(values) for values in (control, other)]
    squares = [np.cumsum(np.square(values)) for values in (control, other)]
    rejected, missed, ordinary = False, False, False
    for users in LOOKS:
        first, second = (
            Outcomes(users, float(s[users - 1]), float(q[users - 1])) for s, q in zip(sums, squares, strict=True)
        )
        low, high, p = against(first, second, mixed, ALPHA)
        rejected |= p < ALPHA
        missed |= not low <= true <= high
        error = np.sqrt((first.variance + second.variance) / users)
        ordinary |= abs(second.mean - first.mean) > 1.96 * error
    return rejected, missed, ordinary


@pytest.mark.parametrize("rate", [0.03, 0.3])
def test_looking_all_the_time_does_not_raise_false_alarms(rate):
    rng = np.random.default_rng(1)
    runs = 300
    found = np.array([
        looked_at(*(rng.random((2, LOOKS[-1])) < rate).astype(float), 0.0) for _ in range(runs)
    ]).mean(axis=0)  # fmt: skip
    assert found[0] <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / runs)
    assert found[1] == found[0]  # the p-value and the interval say the same
    assert found[2] > 0.2  # an ordinary test looked at all the time is wrong in one case of five and more


def test_intervals_hold_a_true_difference_at_all_looks_and_find_it():
    rng = np.random.default_rng(2)
    found = np.array([
        looked_at(rng.exponential(1.0, LOOKS[-1]), rng.exponential(1.0, LOOKS[-1]) + 0.15, 0.15) for _ in range(200)
    ]).mean(axis=0)  # fmt: skip
    assert found[0] > 0.9
    assert found[1] < 0.09


def test_intervals_narrow_and_are_narrowest_for_their_size_where_planned():
    def width(users: int, planned: int) -> float:
        one = Outcomes(users, 0.3 * users, 0.3 * users)
        low, high, _ = against(one, one, mixture(planned, ALPHA), ALPHA)
        return high - low

    assert width(500, 2_000) > width(2_000, 2_000) > width(20_000, 2_000)
    assert width(2_000, 2_000) < min(width(2_000, 200), width(2_000, 20_000))
    fixed = 2 * 1.96 * np.sqrt(2 * 0.21 / 2_000)
    assert fixed < width(2_000, 2_000) < 1.7 * fixed  # what looking at any time costs


def test_nothing_is_said_of_a_few_users_or_of_what_never_varies():
    few = Outcomes.of(np.random.default_rng(0).random(LEAST - 1))
    assert against(few, few, 0.01, ALPHA) == (-np.inf, np.inf, 1.0)
    none = Outcomes(1_000, 0.0, 0.0)
    assert against(none, none, 0.01, ALPHA) == (-np.inf, np.inf, 1.0)


def test_outcomes_of_days_add_up():
    values = np.random.default_rng(3).normal(2, 3, 1_000)
    together = Outcomes.of(values[:300]) + Outcomes.of(values[300:])
    assert together.mean == pytest.approx(values.mean())
    assert together.variance == pytest.approx(values.var(ddof=1))
    assert Outcomes(0, 0.0, 0.0).mean == 0


def test_variants_are_judged_together():
    rng = np.random.default_rng(4)
    rates = (0.2, 0.2, 0.3, 0.1)
    outcomes = [Outcomes.of((rng.random(5_000) < rate).astype(float)) for rate in rates]
    found = compare(["control", "same", "up", "down"], outcomes, planned=5_000)
    assert [each.verdict for each in found] == ["open", "better", "worse"]
    assert found[1].low > compare(["control", "up"], [outcomes[0], outcomes[2]], 5_000)[0].low - 0.02
    assert [each.p < ALPHA for each in found] == [False, True, True]
    for each, rate in zip(found, rates[1:], strict=True):
        assert each.low < rate - 0.2 < each.high


def test_users_that_were_not_shared_out_as_planned_are_seen_at_any_look():
    rng = np.random.default_rng(5)
    false = 0
    for _ in range(200):
        first = np.cumsum(rng.random(3_000) < 0.5)
        false += (
            min(shares_as_planned([first[n - 1], n - first[n - 1]], [0.5, 0.5]) for n in range(50, 3_001, 50)) < 0.05
        )
    assert false / 200 < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert shares_as_planned([5_300, 4_700], [0.5, 0.5]) < 1e-5
    assert shares_as_planned([2_480, 7_520], [0.25, 0.75]) > 0.05
    assert shares_as_planned([0, 0], [0.5, 0.5]) == pytest.approx(1)
    # Two shares make it a beta-binomial ratio.
    ratio = stats.betabinom.pmf(60, 100, 1, 1) / stats.binom.pmf(60, 100, 0.5)
    assert shares_as_planned([60, 40], [0.5, 0.5]) == pytest.approx(min(1, 1 / ratio))


def test_how_users_were_shared_out_is_told_at_any_look_and_by_chi_square():
    even, uneven = (sharing(["control", "new"], users, [0.6, 0.3]) for users in ([1_210, 590], [1_000, 1_000]))
    assert (even["as_planned"], uneven["as_planned"]) == (True, False)
    chance = stats.chi2.sf((1_210 - 1_200) ** 2 / 1_200 + (590 - 600) ** 2 / 600, 1)
    assert even["chi_square_p"] == pytest.approx(chance)
    assert uneven["chi_square_p"] < uneven["p"] < 1e-3
    assert even["planned"] == {"control": 0.6, "new": 0.3}
    assert sharing(["control", "new"], [0, 0], [0.6, 0.3])["as_planned"]


def test_a_rate_is_of_all_events_and_varies_as_users_do():
    """Users of many events have lower rates: the mean of users' rates is another one."""
    rng = np.random.default_rng(7)

    def users(count: int) -> tuple[np.ndarray, np.ndarray]:
        targets = rng.integers(0, 12, count)
        return rng.binomial(targets, rng.beta(2, 4, count) / (1 + (targets > 6))).astype(float), targets.astype(float)

    hits, targets = users(2_000)
    found = Outcomes.of_rate(hits, targets)
    assert found.mean == pytest.approx(hits.sum() / targets.sum())
    rates = [(again := users(2_000))[0].sum() / again[1].sum() for _ in range(400)]
    assert np.sqrt(found.variance / found.users) == pytest.approx(np.std(rates), rel=0.12)
    assert Outcomes.of_rate(np.zeros(3), np.zeros(3)) == Outcomes(0, 0.0, 0.0)


def test_the_report_says_what_can_be_said():
    rng = np.random.default_rng(6)
    few, low, high = (
        Outcomes.of((rng.random(users) < rate).astype(float)) for users, rate in ((50, 0.2), (3_000, 0.2), (3_000, 0.3))
    )
    found = report(["control", "new", "better"], [low, few, high])
    assert json.loads(json.dumps(found))["variants"][0]["low"] is None
    assert [row[-1] for row in table(found)[1:]] == ["control", "open", "better"]
    assert len({len(row) for row in table(found)}) == 1
    new, better = words(found, "likings a user")
    assert new == "new against control: not decided; 50 and 3,000 users whose time is over, 100 of each are the least"
    assert better.startswith("better against control: decided, better; 0.299 likings a user against 0.193")
    (alike,) = words(report(["control", "same"], [low, low]), "likings a user")
    assert "not decided" in alike
    none = Outcomes(1_000, 0.0, 0.0)
    assert words(report(["control", "same"], [none, none]), "likings a user")[0].endswith(
        "are the same for all of them"
    )
