"""Slates that one policy showed, with propensities and rewards, in; what another policy would have earned, out. Pure.

A policy's value is the expected sum of rewards over a slate's positions; a single action is a slate of one position.
With w_l the chance of what position l shows under the other policy over that under the logging one, r_l its reward,
q_l a prediction of it and e_l the prediction's mean under the other policy:

| estimator | of each position | source |
|---|---|---|
| `ips` | mean of w r | Horvitz and Thompson 1952; slates: Li et al. 2018, McInerney et al. 2020 |
| `snips` | mean of w r / mean of w | Swaminathan and Joachims 2015 |
| `dm` | mean of e | |
| `dr` | mean of w (r - q) + u e | Dudik et al. 2014; cascades: Kiyohara et al. 2022 |
| `sndr` | mean of w (r - q) / mean of w + mean of e | Kallus and Uehara 2019 |

u is 1, or the weight of the positions above under the cascade assumption. A clipped weight is min(w, clip) (Ionides 2008):
less variance, and a bias.

Estimates are consistent where the logging policy shows all that the other one may show, and where the assumption on how
a position's reward depends on the rest of the slate holds (`Assumption`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK: Final = 4_000_000
"""Counts of the bootstrap held at once."""


class Assumption(StrEnum):
    """What the reward of a position may depend on: the less, the fewer weights are multiplied, and the less variance."""

    INDEPENDENCE = "independence"
    """The item and the position alone: weights of single positions."""
    CASCADE = "cascade"
    """The items above as well: weights of the slate down to the position."""
    SLATE = "slate"
    """The whole slate: one weight for all its positions."""


@dataclass(frozen=True, slots=True)
class Log:
    """Positions shown and what came of them; m rows of n slates, in any order, a position at most once in a slate."""

    slate: Ints
    """[m] 0 to n - 1."""
    position: Ints
    """[m] from 0."""
    reward: Floats
    """[m]."""
    propensity: Floats
    """[m] within (0, 1]: of this item at this position under the policy that showed it. Under the cascade and slate
    assumptions of all that the slate shows down to this position (`Explored.prefix` of upwell.ranking.exploration)."""
    target: Floats
    """[m] the same probability under the policy that is judged."""
    predicted: Floats | None = None
    """[m] q: predicted reward of this item at this position."""
    expected: Floats | None = None
    """[m] e: mean of such predictions over the items that the judged policy may show here (given what is shown above,
    under the cascade assumption)."""
    cluster: Ints | None = None
    """[n] whom each slate was shown to: slates of one user are not independent. None: every slate is."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's value by one estimator."""

    estimator: str
    clip: float
    """Largest weight; inf where nothing is clipped."""
    value: float
    """Reward per slate."""
    error: float
    """Standard error."""
    normal: tuple[float, float]
    """Interval by the normal approximation."""
    bootstrap: tuple[float, float]
    """Percentile interval; NaN where none was asked for."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"value": self.value, "standard_error": self.error, "normal": list(self.normal)}
        if np.isfinite(self.bootstrap[0]):
            found["bootstrap"] = list(self.bootstrap)
        return found | ({"clip": self.clip} if np.isfinite(self.clip) else {})


@dataclass(frozen=True, slots=True)
class Support:
    """How far a log carries an estimate, of one position."""

    position: int
    slates: int
    effective: float
    """Effective sample size (sum w)^2 / sum w^2: so many slates of the judged policy itself say as much (Kish 1965)."""
    mean_weight: float
    """1 but for chance, where the propensities are right and the logging policy shows all that the judged one may show."""
    off_by: float
    """Standard errors between the mean weight and 1."""
    largest: float
    clipped: float
    """Share of slates whose weight is clipped."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def weights(log: Log, assumption: Assumption, clip: float = np.inf) -> tuple[Floats, Floats]:
    """Importance weights of each row, and of what stands above it (1 where rewards don't depend on that); [m] each."""
    weight = log.target / log.propensity
    if assumption is Assumption.INDEPENDENCE:
        return np.minimum(weight, clip), np.ones_like(weight)
    order = np.lexsort((log.position, log.slate))
    inside = np.diff(log.slate[order], prepend=-1) == 0
    above = np.ones_like(weight)
    if assumption is Assumption.CASCADE:
        above[order[inside]] = weight[order[np.flatnonzero(inside) - 1]]
    else:
        last = np.flatnonzero(~np.append(inside[1:], False))
        weight[order] = np.repeat(weight[order[last]], np.diff(last, prepend=-1))
        above = weight
    return np.minimum(weight, clip), np.minimum(above, clip)


def estimates(
    log: Log,
    assumption: Assumption = Assumption.INDEPENDENCE,
    clip: float = np.inf,
    level: float = 0.95,
    resamples: int = 0,
    seed: int = 0,
) -> list[Estimate]:
    """The judged policy's value by every estimator that the log and the assumption allow.

    Those with predictions need them; `dm` ignores what is above and is for independent positions; predictions are of
    positions, so the slate assumption has `ips` and `snips` alone.

    Args:
        clip: largest weight.
        level: of the intervals.
        resamples: of the bootstrap over clusters (Efron 1979), whose normalisers are drawn anew as well; 0 leaves it out.
        seed: of the bootstrap.
    """
    weight, above = weights(log, assumption, clip)
    totals = _Totals(log, weight)
    sums = {name: totals.of(*_parts(name, log, weight, above)) for name in _able(log, assumption)}
    drawn: dict[str, list[Floats]] = {name: [] for name in sums}
    for counts in _resampled(totals.clusters, resamples, seed):
        for name, each in sums.items():
            drawn[name].append(each.values(counts))
    found = []
    for name, each in sums.items():
        value = float(each.values(np.ones((1, totals.clusters)))[0])
        error = each.error(value)
        reach = float(ndtri(0.5 + level / 2)) * error
        low, high = np.nan, np.nan
        if resamples:
            low, high = np.quantile(np.concatenate(drawn[name]), [0.5 - level / 2, 0.5 + level / 2]).tolist()
        found.append(Estimate(name, clip, value, error, (value - reach, value + reach), (low, high)))
    return found


def support(log: Log, assumption: Assumption, clip: float = np.inf) -> list[Support]:
    """Diagnostics by position; means are of the weights before they are clipped."""
    weight, _ = weights(log, assumption)
    found = []
    for position in np.unique(log.position):
        here = weight[log.position == position]
        error = here.std(ddof=1) / np.sqrt(len(here)) if len(here) > 1 else 0.0
        off = here.mean() - 1
        used = np.minimum(here, clip)
        found.append(Support(
            int(position), len(here), float(used.sum() ** 2 / max(np.square(used).sum(), 1e-300)),
            float(here.mean()), float(off / error) if error > 0 else 0.0, float(here.max()), float((here > clip).mean()),
        ))  # fmt: skip
    return found


def _able(log: Log, assumption: Assumption) -> list[str]:
    if log.predicted is None or assumption is Assumption.SLATE:
        return ["ips", "snips"]
    return ["ips", "snips", "dr", "sndr"] + (["dm"] if assumption is Assumption.INDEPENDENCE else [])


def _parts(name: str, log: Log, weight: Floats, above: Floats) -> tuple[Floats | None, Floats | None]:
    """What is averaged as it is, and what is averaged over the mean weight; [m] or None."""
    if name == "ips":
        return weight * log.reward, None
    if name == "snips":
        return None, weight * log.reward
    assert log.predicted is not None
    assert log.expected is not None
    direct, correction = above * log.expected, weight * (log.reward - log.predicted)
    return {"dm": (direct, None), "dr": (direct + correction, None), "sndr": (direct, correction)}[name]


class _Totals:
    """Sums of rows by cluster and position: c clusters, p positions."""

    def __init__(self, log: Log, weight: Floats) -> None:
        slates = int(log.slate.max()) + 1
        names, cluster = np.unique(np.arange(slates) if log.cluster is None else log.cluster, return_inverse=True)
        _, place = np.unique(log.position, return_inverse=True)
        self.clusters, self.places = len(names), int(place.max()) + 1
        self._cell = cluster[log.slate] * self.places + place
        self._row = cluster[log.slate]
        self.slates: Floats = np.bincount(cluster, minlength=self.clusters).astype(np.float64)
        """[c] slates of each cluster."""
        self.held = self._by_place(np.ones(len(place)))
        """[c, p] of them that hold each position."""
        self.weight = self._by_place(weight)

    def of(self, plain: Floats | None, ratio: Floats | None) -> _Sums:
        clustered: Floats = np.zeros(self.clusters)
        if plain is not None:
            clustered += np.bincount(self._row, plain, self.clusters)
        return _Sums(self, clustered, None if ratio is None else self._by_place(ratio))

    def _by_place(self, values: Floats) -> Floats:
        summed: Floats = np.bincount(self._cell, values, self.clusters * self.places).astype(np.float64)
        return summed.reshape(self.clusters, self.places)


@dataclass(frozen=True, slots=True)
class _Sums:
    """One estimator's sums. Its value: (sum of plain + sum over p of held * ratio / weight) / slates, all of them totals."""

    totals: _Totals
    plain: Floats
    """[c]."""
    ratio: Floats | None
    """[c, p]."""

    def values(self, counts: Floats) -> Floats:
        """[b] values where the clusters occur as often as `counts` [b, c] says."""
        totals = self.totals
        found: Floats = counts @ self.plain
        if self.ratio is not None:
            weight = counts @ totals.weight
            means = np.divide(counts @ self.ratio, weight, out=np.zeros_like(weight), where=weight > 0)
            found = found + ((counts @ totals.held) * means).sum(axis=1)
        values: Floats = found / (counts @ totals.slates)
        return values

    def error(self, value: float) -> float:
        """Standard error, from the value's derivative in each cluster (the infinitesimal jackknife; Jaeckel 1972)."""
        totals = self.totals
        if totals.clusters < 2:
            return float("nan")
        moved = self.plain - value * totals.slates
        if self.ratio is not None:
            weight, held = totals.weight.sum(axis=0), totals.held.sum(axis=0)
            inverse = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
            mean = self.ratio.sum(axis=0) * inverse
            moved = moved + totals.held @ mean + (self.ratio - totals.weight * mean) @ (held * inverse)
        variance = np.square(moved / totals.slates.sum()).sum() * totals.clusters / (totals.clusters - 1)
        return float(np.sqrt(variance))


def _resampled(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """[b, clusters] how often each cluster is in a sample of as many, drawn with replacement; b are `resamples` in all."""
    rng = np.random.default_rng(seed)
    most = max(1, BLOCK // clusters)
    for start in range(0, resamples, most):
        count = min(most, resamples - start)
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), count).astype(np.float64)
