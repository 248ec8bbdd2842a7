"""Slates and what is believed of uncertain items in; slates with some of these on their last positions, and propensities
that are exact, out.

**What is drawn.** For the last L positions there is a pool: the slate's own items there, and items that are offered for
exploration. With chance s (the budget) the positions are filled from the pool, one after the other and without
replacement, each time with probabilities proportional to weights w that sum to 1 (Plackett and Luce; Luce 1959, Plackett
1975). Otherwise the slate stays as it is.

**Which weights.** w is the probability that an item is the best of the pool, given what is believed of each: Thompson
sampling's own choice probability (Thompson 1933; Chapelle and Li 2011), mixed with a uniform floor. Thompson sampling
draws a rate for each item and takes the largest, which leaves nobody with the probability of what was taken. Here the
probabilities are computed first, by quadrature, and the item is drawn from them. The quadrature's error moves the policy
a little away from Thompson sampling; the propensities are those of the policy that was run, and know no error.

**Propensities.** Given that positions are filled from the pool, item i stands on the first of them with w_i, and

    on the second:  w_i * sum over j != i of  w_j / (1 - w_j)
    on the third:   w_i * sum over j != i, k != i, j of  w_j / (1 - w_j) * w_k / (1 - w_j - w_k)

by summing over what may stand above. The chance of the slate down to a position is the product of
w_i / (1 - weights above). Both are mixed with the slate that stays: (1 - s) * [item is the slate's own] + s * the above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.chance import uniforms

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Columns = NDArray[np.intp]

MOST_POSITIONS: Final = 3
"""The sum over what may stand above grows with the pool's size to the power of the position."""
EDGES: Final = np.linspace(-7.0, 7.0, 17, dtype=np.float32)
"""Of the quadrature, in logits: beyond them lies a thousandth of a belief."""
LOWEST: Final = np.float32(-80.0)
"""A logit whose exponential is still a float32."""
ABSENT: Final = np.float32(-1e5)
"""A mean that no item reaches: what is not there is never the largest."""
BLOCK: Final = 64
"""Slates of one pass of the quadrature: its table stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is explored."""

    share: float = 0.2
    """Of slates whose last positions are filled from the pool."""
    positions: int = 2
    """How many of the last positions; 0 explores nothing."""
    floor: float = 0.1
    """Share of the weights that is uniform over the pool: the first drawn position's importance weight is at most
    pool / (share * floor)."""

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 < self.floor <= 1 and 0 <= self.positions <= MOST_POSITIONS):
            raise ValueError(f"{self}: share within [0, 1], floor within (0, 1], positions within 0..{MOST_POSITIONS}")


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is believed before anything was seen."""

    rate: float = 0.5
    """Share of those shown an item who like it, of all items: learned, not guessed, where it is known."""
    strength: float = 4.0
    """So many showings of an item weigh as much as `rate`."""
    taste: float = 0.5
    """Standard deviation of a user's own liking around everybody's, on the scale of `posterior`, for a new user."""
    settled: float = 20.0
    """Events after which this is halved, as a variance."""


@dataclass(frozen=True, slots=True)
class Explored:
    """Slates as they are shown."""

    rows: Rows
    """[u, k] catalogue rows; -1 where there is no item."""
    propensity: Floats
    """[u, k] probability that this position holds this item, given slate and pool; 1 where nothing is drawn."""
    prefix: Floats
    """[u, k] probability that all positions down to this one hold what they hold."""
    drawn: NDArray[np.bool_]
    """[u] whether the positions were filled from the pool, be it with the slate's own items."""


def posterior(
    liked: Floats | NDArray[np.float32], shown: Floats | NDArray[np.float32], doubt: Doubt
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is believed of items' like-rates, on a scale where the spread depends on the number of showings alone.

    Counts with a beta prior give a beta posterior of the rate p. 2 * arcsin(sqrt(p)) grows with p, so that the best item
    is the same, and is near to normal with variance 1 / (observations + 1) (Anscombe 1948; Freeman and Tukey 1950).

    Args:
        liked: [items] decayed counts >= 0.
        shown: [items] decayed counts >= liked.

    Returns:
        [items] float32 means in [0, pi], and [items] float32 standard deviations.
    """
    observations = np.maximum(shown, liked) + doubt.strength
    rate = (liked + doubt.strength * doubt.rate) / observations
    mean = 2 * np.arcsin(np.sqrt(np.clip(rate, 0.0, 1.0)))
    return mean.astype(np.float32), (1 / np.sqrt(observations + 1)).astype(np.float32)


def optimistic(
    mean: NDArray[np.float32], spread: NDArray[np.float32], live: NDArray[np.bool_], count: int, width: float = 2.0
) -> Rows:
    """The live items that may be best: by mean + width * spread, largest first, equal ones by row.

    One list for all users, made whenever counts have moved: what to offer to pools (an upper confidence bound, as in
    Kaufmann, Cappe and Garivier 2012, "On Bayesian upper confidence bounds").
    """
    index = np.where(live, mean + np.float32(width) * spread, -np.inf)
    found = np.argsort(-index, kind="stable")[:count].astype(np.int64)
    chosen: Rows = found[live[found]]
    return chosen


def pools(slates: Rows, offered: Rows, positions: int) -> Rows:
    """[u, positions + m] what may stand on the last positions: their own items, then those offered that no slate holds.

    Args:
        slates: [u, k] catalogue rows, best first; -1 fills.
        offered: [u, m] rows, each at most once, that the user may be shown; -1 fills.
    """
    held = (offered[:, :, None] == slates[:, None, :]).any(axis=2)
    return np.concatenate([slates[:, max(0, slates.shape[1] - positions) :], np.where(held, -1, offered)], axis=1)


def beliefs(
    posteriors: tuple[NDArray[np.float32], NDArray[np.float32]],
    pool: Rows,
    lean: NDArray[np.float32],
    events: NDArray[np.int64],
    doubt: Doubt,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is believed of the items of each user's pool: of everybody, moved by the user's lean, widened by the doubt.

    Args:
        posteriors: means and standard deviations of all items, from `posterior`.
        pool: [u, n] catalogue rows; -1 fills.
        lean: [u, n] how much more than everybody the user is thought to like each, on the posterior's scale.
        events: [u] of each user's history.

    Returns:
        [u, n] float32 means, and [u, n] float32 standard deviations.
    """
    mean, spread = posteriors
    rows = np.maximum(pool, 0)
    taste = np.float32(doubt.taste**2) / (1 + events.astype(np.float32) / np.float32(doubt.settled))
    return mean[rows] + lean, np.sqrt(spread[rows] ** 2 + taste[:, None])


def weights(
    mean: NDArray[np.float32], spread: NDArray[np.float32], there: NDArray[np.bool_], floor: float
) -> NDArray[np.float64]:
    """Probability that each item of a pool is its best, by independent beliefs, mixed with a uniform floor.

    Beliefs enter as logistic distributions of the same mean and variance, whose distribution function F is cheap. The
    largest of the pool lies below x with P(x) = product of F_i(x), and dP/dx = P * sum of d log F_i / dx: the mass of the
    largest between two edges is split by each item's share in the growth of log P. Edges are, for levels p, the largest
    p-quantile of the pool, so that they lie close where the largest is likely to be.

    Args:
        mean: [u, n] float32.
        spread: [u, n] float32 standard deviations > 0.
        there: [u, n] bool, False where there is no item.
        floor: within (0, 1].

    Returns:
        [u, n] float64, rows sum to 1; 0 where there is no item, and rows of zeros where there is none at all.
    """
    users, count = mean.shape
    best = np.zeros(mean.shape)
    table = np.empty((2, count, BLOCK), np.float32)
    for start in range(0, users, BLOCK):
        block = slice(start, start + BLOCK)
        here = len(mean[block])
        table[0, :, :here] = np.where(there[block], mean[block], ABSENT).T
        table[1, :, :here] = spread[block].T
        # Sums of a narrower table would be added up in another order, and a user's weights depend on the batch.
        table[:, :, here:] = 1.0
        best[block] = _best(table[0], table[1] * np.float32(np.sqrt(3) / np.pi)).T[:here]
    best[~there] = 0.0
    total, held = best.sum(axis=1, keepdims=True), there.sum(axis=1, keepdims=True)
    best = np.divide((1 - floor) * best, total, out=np.zeros_like(best), where=total > 0)
    best += there * (floor / np.maximum(held, 1))
    total = best.sum(axis=1, keepdims=True)
    return np.divide(best, total, out=best, where=total > 0)


def _best(mean: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, u] unnormalised probability of being the largest; means and logistic scales are [n, u] as well."""
    edges = (mean[:, None, :] + scale[:, None, :] * EDGES[:, None]).max(axis=0)
    logits = edges - mean[:, None, :]
    logits /= scale[:, None, :]
    np.maximum(logits, LOWEST, out=logits)
    np.negative(logits, out=logits)
    np.exp(logits, out=logits)
    logits += np.float32(1)
    np.log(logits, out=logits)
    grown = logits[:, :-1] - logits[:, 1:]
    largest = np.exp(-logits.sum(axis=0))
    together = np.maximum(grown.sum(axis=0), np.float32(1e-30))
    found: NDArray[np.float32] = (grown * ((largest[1:] - largest[:-1]) / together)).sum(axis=1)
    return found


def explore(
    slates: Rows,
    pool: Rows,
    weight: Floats,
    keys: NDArray[np.uint64],
    versions: NDArray[np.int64] | NDArray[np.uint64],
    budget: Budget,
) -> Explored:
    """Fill the last positions of some slates from their pools; say the exact propensity of what every slate shows.

    Args:
        slates: [u, k] catalogue rows, best first; -1 fills, and a slate that lacks items is left as it is.
        pool: [u, n] from `pools`, for `budget.positions`.
        weight: [u, n] from `weights`.
        keys: [u] uint64, hashes of the users' ids.
        versions: [u] versions of the users' rankings: with the keys they decide what is drawn, and nothing else does.
    """
    users, places = slates.shape
    count = min(budget.positions, places)
    rows, propensity, prefix = slates.copy(), np.ones((users, places)), np.ones((users, places))
    drawn = np.zeros(users, bool)
    able = np.flatnonzero((slates[:, places - count :] >= 0).all(axis=1)) if count else np.zeros(0, np.intp)
    if len(able):
        pool, weight = pool[able], weight[able]
        chance = uniforms(keys[able], versions[able], count + 1)
        filled = chance[:, 0] < budget.share
        drawn[able] = filled
        picks = np.tile(np.arange(count), (len(able), 1))  # the slate's own items head the pool
        picks[filled] = _drawn(weight[filled], chance[filled, 1:])
        rows[able, places - count :] = np.take_along_axis(pool, picks, axis=1)
        found = propensities(weight, picks, np.tile(np.arange(count), (len(able), 1)), budget.share)
        propensity[able, places - count :], prefix[able, places - count :] = found
    return Explored(rows, propensity, prefix, drawn)


def propensities(weight: Floats, shown: Columns, own: Columns, share: float) -> tuple[Floats, Floats]:
    """How likely it is that positions hold what they hold; also for weights, slates and shares that were not used.

    Args:
        weight: [u, n] from `weights`.
        shown: [u, positions] columns of what stands on the last positions, no two alike.
        own: [u, positions] columns of what the slate has there where it stays as it is.
        share: of slates that are filled from the pool.

    Returns:
        [u, positions] probability that each position holds its item, and that it and all before it do.
    """
    each, left = np.arange(len(weight)), weight.copy()
    single, prefix = np.empty(shown.shape), np.empty(shown.shape)
    conditional, same = np.ones(len(weight)), np.ones(len(weight), bool)
    for place, pick in enumerate(shown.T):
        stays = pick == own[:, place]
        same = same & stays
        conditional = conditional * left[each, pick] / left.sum(axis=1)
        left[each, pick] = 0.0
        single[:, place] = (1 - share) * stays + share * MARGINALS[place](weight, pick)
        prefix[:, place] = (1 - share) * same + share * conditional
    return single, prefix


def marginals(weight: Floats, positions: int) -> Floats:
    """[u, positions, n] probability that each position holds each item of the pool, where it is filled from it.

    Args:
        weight: [u, n], rows sum to 1.
        positions: at most MOST_POSITIONS, and no more than there are items.
    """
    users, count = weight.shape
    found = np.empty((users, positions, count))
    for place in range(positions):
        for item in range(count):
            found[:, place, item] = MARGINALS[place](weight, np.full(users, item))
    return found


def _drawn(weight: Floats, chance: Floats) -> Columns:
    """[u, positions] columns drawn one after the other, in proportion to what is left of the weights."""
    left, each = weight.copy(), np.arange(len(weight))
    picks = np.empty(chance.shape, np.intp)
    for place in range(chance.shape[1]):
        summed = left.cumsum(axis=1)
        total = summed[:, -1]
        # A product that rounds up to the total would exceed every column.
        picks[:, place] = (summed > np.minimum(chance[:, place] * total, np.nextafter(total, 0))[:, None]).argmax(
            axis=1
        )
        left[each, picks[:, place]] = 0.0
    return picks


def _first(weight: Floats, pick: Columns) -> Floats:
    found: Floats = weight[np.arange(len(weight)), pick]
    return found


def _second(weight: Floats, pick: Columns) -> Floats:
    own = _first(weight, pick)
    found: Floats = own * ((weight / (1 - weight)).sum(axis=1) - own / (1 - own))
    return found


def _third(weight: Floats, pick: Columns) -> Floats:
    users, count = weight.shape
    own = _first(weight, pick)
    above, between = weight[:, :, None], weight[:, None, :]
    rest = 1 - above - between
    rest[:, np.arange(count), np.arange(count)] = 1.0
    pairs = above / (1 - above) * between / rest
    pairs[:, np.arange(count), np.arange(count)] = 0.0
    others = np.arange(users)
    found: Floats = own * (
        pairs.sum(axis=(1, 2)) - pairs[others, pick].sum(axis=1) - pairs[others, :, pick].sum(axis=1)
    )
    return found


MARGINALS: Final = (_first, _second, _third)
"""Of a pool's item standing on the first, second, third drawn position."""
