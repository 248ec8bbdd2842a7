"""Outcomes of an experiment's users in, what differs from the control out; may be looked at as often as one likes. Pure.

An ordinary test keeps its error for one look at a fixed number of users. Here the likelihood ratio of the difference is
mixed over a normal distribution of effects: a martingale under no difference, which exceeds 1 / alpha with a chance of at
most alpha however long one goes on (Ville 1939; Robbins 1970; as an A/B test Johari, Pekelis and Walsh 2017, "mSPRT").
With d the difference, V its variance (s_a^2 / n_a + s_b^2 / n_b) and T the variance of the mixture

    ratio    = sqrt(V / (V + T)) * exp(T d^2 / (2 V (V + T)))
    p        = min(1, 1 / ratio)
    interval = d +- sqrt(V (V + T) / T * log((V + T) / (V alpha^2)))

and the interval holds all differences that are not refuted (a confidence sequence; Howard et al. 2021). Variances are
estimated, so this holds for many users and is asymptotic (Waudby-Smith et al. 2021); nothing is said before `LEAST` of them.
T is fixed in units of one user's variance, so that the interval is narrowest at a number of users planned beforehand.

**An observation is a user, once and finished**: such as the likes within a week of the first slate. Slates of one user are
not independent, and an outcome that still grows is no observation. A rate over events, such as hits of targets, is compared
by its linearisation in users (`Outcomes.of_rate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import chisquare

Floats = NDArray[np.float64]

LEAST: Final = 100
"""Users of a variant before anything is said of it."""
UNEVEN: Final = 0.001
"""A p-value of the shares below it: users were not shared out as planned, and nothing else can be believed."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A variant's users as sums, which may be added up over workers and days."""

    users: int
    total: float
    squares: float
    """Sum of squared outcomes."""

    @staticmethod
    def of(values: Floats) -> Outcomes:
        """Of users' outcomes, [n]."""
        return Outcomes(len(values), float(values.sum()), float(np.square(values).sum()))

    @staticmethod
    def of_rate(hits: Floats, targets: Floats) -> Outcomes:
        """Of the rate of users' hits in their targets, each [n]: the mean is sum(hits) / sum(targets), the variance that of the
        delta method, in which users are what is sampled (Deng, Knoblich and Lu 2018, "Applying the delta method in metric
        analytics"). Such outcomes cannot be added up."""
        if not targets.sum():
            return Outcomes(0, 0.0, 0.0)
        rate = hits.sum() / targets.sum()
        return Outcomes.of(rate + (hits - rate * targets) / targets.mean())

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(self.users + other.users, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.users if self.users else 0.0

    @property
    def variance(self) -> float:
        """Of one user's outcome."""
        if self.users < 2:
            return 0.0
        return max(0.0, (self.squares - self.total * self.mean) / (self.users - 1))


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant against the control."""

    name: str
    outcomes: Outcomes
    difference: float
    """Of the means."""
    low: float
    high: float
    """Interval that holds the true difference at all looks together; infinite before there are enough users."""
    p: float
    """Always-valid p-value: at any look, however chosen, that of any variant falls below a with chance a at most."""
    verdict: str
    """`better`, `worse` or `open`."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ends of an infinite interval are None."""
        ends = {name: value if np.isfinite(value) else None for name, value in (("low", self.low), ("high", self.high))}
        return {
            "variant": self.name, "users": self.outcomes.users, "mean": self.outcomes.mean,
            "difference": self.difference, **ends, "p": self.p, "verdict": self.verdict,
        }  # fmt: skip


def mixture(planned: int, alpha: float) -> float:
    """Variance of the mixture, in units of one user's, that makes the interval narrowest at a planned size.

    Args:
        planned: users of each of two variants of equal size.
        alpha: chance of an error over all looks.
    """
    return float((-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) * 2 / planned)


def against(control: Outcomes, other: Outcomes, mixed: float, alpha: float) -> tuple[float, float, float]:
    """Interval of the difference other - control, and its p-value, as above.

    Args:
        mixed: from `mixture`, chosen before the first look.

    Returns:
        low, high, p; an infinite interval and 1 before both have `LEAST` users or where nothing varies.
    """
    smallest = min(control.users, other.users)
    variance = control.variance / max(control.users, 1) + other.variance / max(other.users, 1)
    if smallest < LEAST or variance == 0:
        return -np.inf, np.inf, 1.0
    # The variance of one user's outcome, as both variants have it together.
    one = variance / (1 / control.users + 1 / other.users)
    wide = variance + mixed * one
    difference = other.mean - control.mean
    log_ratio = 0.5 * np.log(variance / wide) + mixed * one * difference**2 / (2 * variance * wide)
    reach = np.sqrt(variance * wide / (mixed * one) * (np.log(wide / variance) - 2 * np.log(alpha)))
    return float(difference - reach), float(difference + reach), float(np.exp(-max(0.0, log_ratio)))


def compare(
    names: Sequence[str], outcomes: Sequence[Outcomes], planned: int = 10_000, alpha: float = 0.05
) -> list[Difference]:
    """Every variant against the first one.

    Args:
        names: of the variants; the first is the control.
        planned: users of each at which intervals are to be narrowest, chosen before the first look.
        alpha: chance that anything wrong is said of any variant at any look (Bonferroni over the variants).
    """
    each = alpha / max(1, len(names) - 1)
    mixed = mixture(planned, each)
    found = []
    for name, other in zip(names[1:], outcomes[1:], strict=True):
        low, high, p = against(outcomes[0], other, mixed, each)
        verdict = "better" if low > 0 else "worse" if high < 0 else "open"
        together = min(1.0, p * (len(names) - 1))  # below alpha where the interval leaves out 0, and nowhere else
        found.append(Difference(name, other, other.mean - outcomes[0].mean, low, high, together, verdict))
    return found


def shares_as_planned(users: Sequence[int], shares: Sequence[float]) -> float:
    """Always-valid p-value of users having been shared out as planned (a sample ratio mismatch, at any look).

    The likelihood ratio of the counts, mixed over all shares by a Dirichlet distribution around the planned ones
    (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data").

    Args:
        users: [k] of each variant, one after the other as they came in.
        shares: [k] > 0.
    """
    counts, planned = np.asarray(users, np.float64), np.asarray(shares, np.float64)
    planned = planned / planned.sum()
    prior = planned * len(planned)
    ratio = (
        gammaln(prior.sum()) - gammaln(prior.sum() + counts.sum())
        + (gammaln(prior + counts) - gammaln(prior)).sum() - (counts * np.log(planned)).sum()
    )  # fmt: skip
    return float(np.exp(-max(0.0, ratio)))


def sharing(names: Sequence[str], users: Sequence[int], shares: Sequence[float]) -> dict[str, Any]:
    """Whether users were shared out as planned, JSON-able.

    `p` holds at every look, and is what says so; `chi_square_p` is Pearson's, of one look at a number of users fixed before.
    """
    p = shares_as_planned(users, shares)
    expected = np.array(shares) / sum(shares) * sum(users)
    once = float(chisquare(users, expected).pvalue) if sum(users) else 1.0
    return {
        "users": dict(zip(names, users, strict=True)), "planned": dict(zip(names, shares, strict=True)),
        "p": p, "chi_square_p": once, "as_planned": p >= UNEVEN,
    }  # fmt: skip


def report(
    names: Sequence[str], outcomes: Sequence[Outcomes], planned: int = 10_000, alpha: float = 0.05
) -> dict[str, Any]:
    """One measure, JSON-able: the control, and every variant against it."""
    return {
        "control": {"variant": names[0], "users": outcomes[0].users, "mean": outcomes[0].mean},
        "variants": [each.as_dict() for each in compare(names, outcomes, planned, alpha)],
        "alpha": alpha, "planned_users": planned,
    }  # fmt: skip


def words(found: dict[str, Any], of: str) -> list[str]:
    """What a report says, a sentence for each variant. of: what is measured, such as `likings a user`."""
    control, said = found["control"], []
    for each in found["variants"]:
        against_it = f"{each['variant']} against {control['variant']}"
        if each["low"] is None:
            counts = f"{each['users']:,} and {control['users']:,} users"
            few = min(each["users"], control["users"]) < LEAST
            why = f"{LEAST} of each are the least" if few else f"{of} are the same for all of them"
            said.append(f"{against_it}: not decided; {counts} whose time is over, {why}")
            continue
        means = f"{each['mean']:.3g} {of} against {control['mean']:.3g}"
        between = f"the difference lies between {each['low']:+.3g} and {each['high']:+.3g}, p = {each['p']:.2g}"
        verdict = "not decided" if each["verdict"] == "open" else f"decided, {each['verdict']}"
        said.append(f"{against_it}: {verdict}; {means}, {between}")
    return said


def table(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of `report`'s figures as text: variant, users, mean, difference, interval, relative difference, p, verdict."""
    control = found["control"]
    rows: list[tuple[str, ...]] = [
        ("variant", "users", "mean", "difference", "interval", "relative", "p", ""),
        (control["variant"], f"{control['users']:,}", f"{control['mean']:.4f}", "", "", "", "", "control"),
    ]
    for each in found["variants"]:
        interval = "" if each["low"] is None else f"{each['low']:+.4f} to {each['high']:+.4f}"
        relative = f"{each['difference'] / control['mean']:+.1%}" if control["mean"] else ""
        rows.append((
            each["variant"], f"{each['users']:,}", f"{each['mean']:.4f}", f"{each['difference']:+.4f}", interval, relative,
            f"{each['p']:.3g}", each["verdict"],
        ))  # fmt: skip
    return rows
