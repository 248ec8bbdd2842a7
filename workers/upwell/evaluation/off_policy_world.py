"""Small worlds in which a policy's value is known: what off-policy estimates are measured against.

Visitors come in some kinds. Slates are drawn by the product's own exploration, with its logged propensities; the truth is
a sum over every slate that the judged policy may show. Each world breaks or keeps what an assumption says of rewards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.off_policy import Assumption, Estimate, Log, estimates, support
from upwell.ranking.exploration import Budget, Columns, explore, marginals, propensities, weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KINDS: Final = 30
"""Kinds of visitors."""
ITEMS: Final = 8
"""Items that may stand on a position."""
LOOKED_AT: Final = np.array([1.0, 0.7, 0.5])
"""Chance that a position is looked at, where they are independent."""
GOES_ON: Final = 0.9
"""Chance that a visitor who does not click looks at the next position, in a cascade."""
OUTSIDE: Final = 0.5
"""What a visitor who compares the whole slate has beside it, in units of the attraction's odds."""
CLIP: Final = 10.0


class Nature(StrEnum):
    """How visitors react."""

    SINGLE = "single"
    """To the one item that they see."""
    INDEPENDENT = "independent"
    """To each position by its item."""
    CASCADE = "cascade"
    """From the first position on, until they click."""
    COMPARING = "comparing"
    """To the best of the slate, or to none: an item is clicked less the better its neighbours are."""


HOLDS: Final = {
    Nature.SINGLE: frozenset(Assumption),
    Nature.INDEPENDENT: frozenset(Assumption),
    Nature.CASCADE: frozenset({Assumption.CASCADE, Assumption.SLATE}),
    Nature.COMPARING: frozenset({Assumption.SLATE}),
}
"""Assumptions that are true of each nature."""


class Judged(StrEnum):
    """How the judged policy differs from the one that showed the slates."""

    BUDGET = "budget"
    """The same own slates; it explores more of them, by better beliefs."""
    MODEL = "model"
    """Own slates by better beliefs, too."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Slates for each kind of visitor: own items, or, with chance `share`, items drawn by weight."""

    own: Columns
    """[kinds, positions] items."""
    weight: Floats
    """[kinds, items]."""
    share: float

    def single(self) -> Floats:
        """[kinds, positions, items] chance that a position holds an item."""
        kinds, positions = self.own.shape
        stays = np.zeros((kinds, positions, self.weight.shape[1]))
        np.put_along_axis(stays, self.own[:, :, None], 1.0, axis=2)
        return (1 - self.share) * stays + self.share * marginals(self.weight, positions)


class World:
    """Kinds of visitors, what attracts them, a policy that shows slates and one that is judged. A function of its seed."""

    def __init__(self, nature: Nature, judged: Judged, seed: int) -> None:
        self.nature = nature
        self.positions = 1 if nature is Nature.SINGLE else 3
        rng = np.random.default_rng(seed)
        self.attraction: Floats = rng.beta(1.5, 5.0, (KINDS, ITEMS))
        """[kinds, items] chance of a click where an item is alone and looked at."""
        self.logging = self._policy(rng, noise=0.5, share=0.5, floor=0.2)
        better = self._policy(rng, noise=0.2, share=0.5, floor=0.1)
        self.judged = replace(better, own=self.logging.own, share=0.9) if judged is Judged.BUDGET else better
        self.slates: Columns = np.array(list(permutations(range(ITEMS), self.positions)))
        """[t, positions] every slate there is."""
        self.clicks = self._clicks(np.repeat(np.arange(KINDS), len(self.slates)), np.tile(self.slates, (KINDS, 1)))
        """[kinds * t, positions] chance of a click on each position of each slate."""

    def truth(self) -> float:
        """Clicks per slate of the judged policy."""
        kind = np.repeat(np.arange(KINDS), len(self.slates))
        shown = np.tile(self.slates, (KINDS, 1))
        _, prefix = propensities(self.judged.weight[kind], shown, self.judged.own[kind], self.judged.share)
        return float((prefix[:, -1] * self.clicks.sum(axis=1)).sum() / KINDS)

    def log(self, slates: int, seed: int) -> dict[Assumption, Log]:
        """The same visitors' slates with the propensities, and where there can be some the predictions, of each assumption.

        Predictions are an item's mean on a position over all kinds, learned from the other half of the log.
        """
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, KINDS, slates)
        shown, single, prefix = self._shown(kind, rng.integers(0, 2**63, slates).astype(np.uint64))
        reward = self._rewards(kind, shown, rng)
        mean = _predictions(shown, reward)
        judged = self.judged
        to_single, to_prefix = propensities(judged.weight[kind], shown, judged.own[kind], judged.share)
        place = np.tile(np.arange(self.positions), (slates, 1))
        predicted = mean[np.arange(slates)[:, None], place, shown].ravel()
        rows = (np.repeat(np.arange(slates), self.positions), place.ravel(), reward.ravel())
        independent = Log(
            *rows, single.ravel(), to_single.ravel(), predicted, (judged.single()[kind] * mean).sum(axis=2).ravel()
        )
        cascade = Log(
            *rows, prefix.ravel(), to_prefix.ravel(), predicted, (self._next(kind, shown) * mean).sum(axis=2).ravel()
        )
        whole = Log(*rows, prefix.ravel(), to_prefix.ravel())
        return {Assumption.INDEPENDENCE: independent, Assumption.CASCADE: cascade, Assumption.SLATE: whole}

    def _policy(self, rng: np.random.Generator, noise: float, share: float, floor: float) -> Policy:
        """The slates of one who believes in the attraction but for some noise."""
        mean = (2 * np.arcsin(np.sqrt(self.attraction)) + rng.normal(0, noise, (KINDS, ITEMS))).astype(np.float32)
        spread = rng.uniform(0.1, 0.5, (KINDS, ITEMS)).astype(np.float32)
        own = np.argsort(-mean, axis=1, kind="stable")[:, : self.positions]
        return Policy(own, weights(mean, spread, np.ones((KINDS, ITEMS), bool), floor), share)

    def _shown(self, kind: Ints, keys: NDArray[np.uint64]) -> tuple[Columns, Floats, Floats]:
        """What the logging policy shows, by the product's own exploration; the slate's own items head its pool."""
        own, weight = self.logging.own[kind], self.logging.weight[kind]
        others = np.ones((len(kind), ITEMS), bool)
        np.put_along_axis(others, own, False, axis=1)
        pool = np.concatenate([own, np.nonzero(others)[1].reshape(len(kind), -1)], axis=1)
        found = explore(
            own, pool, np.take_along_axis(weight, pool, axis=1), keys, np.zeros(len(kind), np.int64),
            Budget(self.logging.share, self.positions),
        )  # fmt: skip
        return found.rows, found.propensity, found.prefix

    def _clicks(self, kind: Ints, shown: Columns) -> Floats:
        """[u, positions] chance of a click on each position."""
        attraction: Floats = self.attraction[kind[:, None], shown]
        if self.nature is Nature.CASCADE:
            passed = np.cumprod(GOES_ON * (1 - attraction), axis=1)
            attraction[:, 1:] *= passed[:, :-1]
            return attraction
        if self.nature is Nature.COMPARING:
            odds = attraction / (1 - attraction)
            return np.divide(odds, OUTSIDE + odds.sum(axis=1, keepdims=True))
        return np.multiply(attraction, LOOKED_AT[: self.positions])

    def _rewards(self, kind: Ints, shown: Columns, rng: np.random.Generator) -> Floats:
        """[u, positions] clicks; at most one where visitors go through the slate or compare."""
        chance = self._clicks(kind, shown)
        if self.nature in {Nature.SINGLE, Nature.INDEPENDENT}:
            return (rng.random(chance.shape) < chance).astype(np.float64)
        drawn, upper = rng.random((len(kind), 1)), chance.cumsum(axis=1)
        return ((drawn < upper) & (drawn >= upper - chance)).astype(np.float64)

    def _next(self, kind: Ints, shown: Columns) -> Floats:
        """[u, positions, items] chance of each item under the judged policy, given what is shown above."""
        judged, found = self.judged, np.zeros((len(kind), self.positions, ITEMS))
        for item in range(ITEMS):
            for place in range(self.positions):
                free = np.flatnonzero((shown[:, :place] != item).all(axis=1))
                one = np.concatenate([shown[free, :place], np.full((len(free), 1), item)], axis=1)
                _, prefix = propensities(judged.weight[kind[free]], one, judged.own[kind[free]], judged.share)
                found[free, place, item] = prefix[:, -1]
        shares: Floats = found / found.sum(axis=2, keepdims=True)
        return shares


@dataclass(slots=True)
class Figures:
    """How one estimator did in one world, over many logs."""

    nature: Nature
    judged: Judged
    assumption: Assumption
    estimator: str
    clip: float
    truth: float
    bias: float
    bias_error: float
    """Standard error of the bias."""
    rmse: float
    coverage: float
    """Share of normal intervals that hold the truth."""
    coverage_bootstrap: float
    width: float
    """Mean width of the normal intervals."""
    effective: float
    """Smallest effective sample size of a position, mean over the logs."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: without the clip where nothing is clipped."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found if np.isfinite(self.clip) else {k: v for k, v in found.items() if k != "clip"}


def measure(
    nature: Nature, judged: Judged, logs: int, slates: int, resamples: int, seed: int, level: float = 0.95
) -> list[Figures]:
    """Errors and interval coverage of every estimator in a world, under every assumption, clipped and not.

    Args:
        logs: drawn; each gives one estimate.
        slates: of each log.
        resamples: of the bootstrap.
        seed: of the world and of the logs.
    """
    world = World(nature, judged, seed)
    truth = world.truth()
    found: dict[tuple[Assumption, str, float], list[tuple[Estimate, float]]] = {}
    for number in range(logs):
        for assumption, log in world.log(slates, seed + 1 + number).items():
            if nature is Nature.SINGLE and assumption is not Assumption.INDEPENDENCE:
                continue
            for clip in (np.inf, CLIP):
                effective = min(each.effective for each in support(log, assumption, clip))
                for each in estimates(log, assumption, clip, level, resamples, number):
                    if each.estimator != "dm" or not np.isfinite(clip):
                        found.setdefault((assumption, each.estimator, clip), []).append((each, effective))
    return [_figures(nature, judged, *key, truth, several) for key, several in found.items()]


def _figures(
    nature: Nature,
    judged: Judged,
    assumption: Assumption,
    name: str,
    clip: float,
    truth: float,
    found: list[tuple[Estimate, float]],
) -> Figures:
    values = np.array([each.value for each, _ in found])
    return Figures(
        nature, judged, assumption, name, clip, truth,
        float(values.mean() - truth), float(values.std(ddof=1) / np.sqrt(len(values))),
        float(np.sqrt(np.square(values - truth).mean())),
        float(np.mean([each.normal[0] <= truth <= each.normal[1] for each, _ in found])),
        float(np.mean([each.bootstrap[0] <= truth <= each.bootstrap[1] for each, _ in found])),
        float(np.mean([each.normal[1] - each.normal[0] for each, _ in found])),
        float(np.mean([effective for _, effective in found])),
    )  # fmt: skip


def _predictions(shown: Columns, reward: Floats) -> Floats:
    """[u, positions, items] mean reward of an item on a position, by the half of the slates that a slate is not in."""
    users, positions = shown.shape
    half = np.arange(users) % 2
    cell = (half[:, None] * positions + np.arange(positions)) * ITEMS + shown
    shape = (2, positions, ITEMS)
    size = int(np.prod(shape))
    seen = np.bincount(cell.ravel(), minlength=size).reshape(shape)
    earned = np.bincount(cell.ravel(), reward.ravel(), size).reshape(shape)
    mean = (earned + reward.mean()) / (seen + 1)
    found: Floats = mean[1 - half]
    return found
