"""A measure's past and present in; an alarm, or none, out: of a distribution (PSI), and of a mean or a rate (Page and
Hinkley). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

MODERATE: Final = 0.1
LARGE: Final = 0.25
"""What the population stability index is read by since Lewis (1994): below the first no shift, above the second one that
needs an answer."""


def edges(reference: NDArray[np.float64], bins: int = 10) -> NDArray[np.float64]:
    """[<= bins - 1] float64, ascending inner edges that cut the reference into parts of equal size; fixed from then on.

    Raises:
        ValueError: the reference is empty or holds a number that is not finite.
    """
    if not len(reference) or not np.isfinite(reference).all():
        raise ValueError("the reference of a distribution holds finite numbers, at least one")
    cut: NDArray[np.float64] = np.unique(np.quantile(reference, np.arange(1, bins) / bins))
    return cut


def counts(values: NDArray[np.float64], inner: NDArray[np.float64]) -> NDArray[np.int64]:
    """[edges + 1] int64, values in each bin; one that is on an edge is in the bin above it."""
    return np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1).astype(np.int64)


def stability(expected: NDArray[np.int64], actual: NDArray[np.int64]) -> float:
    """The population stability index of two samples by bin: sum of (a - e) log(a / e) over shares.

    Half an event is added to each bin, so that an empty one is rare instead of impossible. 0 where nothing shifted.
    """
    e, a = expected + 0.5, actual + 0.5
    e, a = e / e.sum(), a / a.sum()
    return float(((a - e) * np.log(a / e)).sum())


def chance_level(expected: NDArray[np.int64], actual: NDArray[np.int64], false_alarms: float = 0.001) -> float:
    """What the index exceeds with this probability although nothing shifted: much, where samples are small.

    It is then (1/n + 1/m) times a chi-squared variable of bins - 1 degrees (Yurdakul 2018), whose quantile is that of
    Wilson and Hilferty (1931).
    """
    freedom = len(expected) - 1
    if freedom == 0:
        return 0.0
    z = NormalDist().inv_cdf(1 - false_alarms)
    quantile = freedom * (1 - 2 / (9 * freedom) + z * (2 / (9 * freedom)) ** 0.5) ** 3
    return float(quantile * (1 / max(expected.sum(), 1) + 1 / max(actual.sum(), 1)))


def shifted(expected: NDArray[np.int64], actual: NDArray[np.int64], least: float = LARGE) -> bool:
    """Whether a distribution shifted by at least `least`, and by more than chance does."""
    return stability(expected, actual) > max(least, chance_level(expected, actual))


@dataclass(slots=True)
class PageHinkley:
    """Tells when a mean has moved, one value at a time (Page 1954, Hinkley 1971, as in Gama et al. 2014).

    It sums deviations from the running mean, less `slack`, and alarms where the sum has gone `threshold` beyond its
    extreme, all in units of the values' standard deviation. A move by s is noticed after about threshold / (s - slack)
    values; where nothing moves there is an alarm in (e^x - 1 - x) / (4 slack^2) values, x = 2 slack (threshold + 1.17):
    in two million, as it stands (Siegmund 1985, for independent normal values, both directions). Skewed values, such as
    hits where they are rare, alarm some ten times as often: means of a hundred of them do not. It begins anew after an alarm.
    """

    slack: float = 0.25
    threshold: float = 25.0
    least: int = 100
    """Values that the mean is learned from before any is judged."""
    seen: int = 0
    mean: float = 0.0
    spread: float = 0.0
    """Sum of squared deviations from the mean (Welford 1962)."""
    up: float = 0.0
    """How far the sum stands above its least value; `down` likewise below its largest."""
    down: float = 0.0

    def add(self, value: float) -> int:
        """1 where the mean has risen, -1 where it has fallen, else 0.

        Raises:
            ValueError: the value is not finite.
        """
        if not np.isfinite(value):
            raise ValueError(f"{value} is no value to watch")
        self.seen += 1
        off = value - self.mean
        self.mean += off / self.seen
        self.spread += off * (value - self.mean)
        deviation = (self.spread / (self.seen - 1)) ** 0.5 if self.seen > 1 else 0.0
        if deviation > 0 and self.seen > self.least:
            step = (value - self.mean) / deviation
            self.up = max(0.0, self.up + step - self.slack)
            self.down = max(0.0, self.down - step - self.slack)
        if max(self.up, self.down) <= self.threshold:
            return 0
        moved = 1 if self.up > self.down else -1
        self.seen, self.mean, self.spread, self.up, self.down = 0, 0.0, 0.0, 0.0, 0.0
        return moved


@dataclass(slots=True)
class Rate:
    """Tells when a rate of hits has moved, one trial at a time, by the means of `each` trials in a row."""

    each: int = 100
    watch: PageHinkley = field(default_factory=lambda: PageHinkley(least=20))
    """Of the means; 2,000 trials are learned from before any is judged."""
    hits: int = 0
    trials: int = 0

    def add(self, hit: bool) -> int:
        """1 where the rate has risen, -1 where it has fallen, else 0."""
        self.hits += hit
        self.trials += 1
        if self.trials < self.each:
            return 0
        mean = self.hits / self.trials
        self.hits = self.trials = 0
        return self.watch.add(mean)
