"""Candidates with scores in; the slate out: relevant, diverse, calibrated, within the caps, ties in a fixed order.

Greedy: each place goes to the candidate of the largest

    (1 - calibration) ((1 - diversity) r + diversity D) + calibration C

where r is the score scaled to [0, 1] over the candidates plus what rules add, and D is what it does for diversity
- `mmr`: minus its largest cosine with an item chosen before (Carbonell and Goldstein 1998), where cosines below 0 count
  as 0: the opposite of an item is no more diverse than what has nothing to do with it;
- `dpp`: log of the squared distance between its vector and the span of those chosen before, which is its gain in the log
  determinant of their cosines (Chen, Zhang and Zhou 2018, algorithm 1 and equation 9);
and C is how much less the slate's categories diverge from the user's, KL(p || q), for having it (Steck 2018).

D never grows while the slate does, so a value computed for a shorter slate is an upper bound: only the candidate with the
largest bound is brought up to date (Minoux 1978). The result is that of the plain greedy, at a fraction of the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.compiled import compiled
from upwell.ranking.groups import Groups, none

FLAT: Final = np.float32(1e-6)
"""Least squared distance from the span: what lies within it is all alike, and relevance alone decides."""
SMOOTHING: Final = 0.01
"""Share of the user's own distribution in the slate's: keeps the divergence finite (Steck 2018, section 3.1)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a slate is to be like."""

    places: int = 10
    method: Literal["mmr", "dpp"] = "mmr"
    diversity: float = 0.0
    """In [0, 1]; 0 is by relevance alone."""
    calibration: float = 0.0
    """In [0, 1]; 0 leaves the user's categories aside."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Most items of a slate per group."""

    groups: Groups
    most: NDArray[np.int32]
    """[groups] int32."""


def fits(caps: Caps, rows: NDArray[np.int64], others: NDArray[np.int64], times: int = 1) -> NDArray[np.bool_]:
    """[m] bool: whether each of [m] `others`, and `times` - 1 more of its groups, may join the items [n] `rows` without
    breaking a cap."""
    left = caps.most - caps.groups.matrix(rows).sum(axis=0)
    free: NDArray[np.bool_] = ~(caps.groups.matrix(others) & (left < times)).any(axis=1)
    return free


def warm() -> None:
    """Compile the greedy, or read what was compiled before: seconds, which no event should wait."""
    one = np.zeros(1, np.int64)
    groups = Groups.of([["c"]])
    caps = Caps(groups, np.ones(1, np.int32))
    slate(
        one, np.zeros(1, np.float32), np.ones((1, 1), np.float32), np.zeros(1, np.uint64), Shape(1, "mmr", 0.5, 0.5),
        caps=caps, categories=groups, wanted=np.ones(1),
    )  # fmt: skip


def slate(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    vectors: NDArray[np.float32],
    ties: NDArray[np.uint64],
    shape: Shape,
    *,
    raised: NDArray[np.float32] | None = None,
    caps: Caps | None = None,
    categories: Groups | None = None,
    wanted: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """The rows of the slate, best first.

    Args:
        rows: [n] int64, distinct catalogue rows of the candidates.
        scores: [n] float32; a candidate whose score is not finite is none.
        vectors: [items, d] float32, unit rows, C order.
        ties: [items] uint64, hashes of the item ids: of two equal candidates the one of the smaller hash comes first.
        raised: [n] float32, added to relevance, in which the best score is 1 and the least 0.
        caps: over catalogue rows.
        categories: over catalogue rows; needed where `shape.calibration` is above 0.
        wanted: [categories] float64, the user's distribution, any positive sum; a zero sum calibrates nothing.

    Returns:
        [k] int64, k <= `shape.places`: fewer where the candidates or their caps end.
    """
    items = len(ties)
    limit = caps or Caps(none(items), np.zeros(0, np.int32))
    calibrated = shape.calibration > 0 and categories is not None and wanted is not None and float(wanted.sum()) > 0
    groups = categories if calibrated and categories is not None else none(items)
    distribution = wanted / wanted.sum() if calibrated and wanted is not None else np.zeros(0)
    chosen = _greedy(
        rows,
        scores,
        np.zeros(len(rows), np.float32) if raised is None else raised,
        vectors,
        ties,
        shape.places,
        shape.method == "dpp",
        np.float32(shape.diversity),
        np.float32(shape.calibration if calibrated else 0.0),
        limit.groups.starts,
        limit.groups.members,
        limit.most.copy(),
        groups.starts,
        groups.members,
        distribution,
    )
    found: NDArray[np.int64] = rows[chosen]
    return found


@compiled
def _greedy(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    raised: NDArray[np.float32],
    vectors: NDArray[np.float32],
    ties: NDArray[np.uint64],
    places: int,
    determinantal: bool,
    diversity: np.float32,
    calibration: np.float32,
    cap_starts: NDArray[np.int32],
    cap_members: NDArray[np.int32],
    left: NDArray[np.int32],
    starts: NDArray[np.int32],
    members: NDArray[np.int32],
    wanted: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Indices into `rows`. `left`, places that each cap still has, is used up."""
    n, d = len(rows), vectors.shape[1]
    relevance = np.empty(n, np.float32)
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for i in range(n):
        if np.isfinite(scores[i]):
            low, high = min(low, scores[i]), max(high, scores[i])
    span = high - low
    open_ = np.empty(n, np.bool_)
    bound = np.empty(n, np.float32)
    own = (np.float32(1) - calibration) * (np.float32(1) - diversity)
    spread = (np.float32(1) - calibration) * diversity
    for i in range(n):
        open_[i] = np.isfinite(scores[i])
        scaled = (scores[i] - low) / span if open_[i] and span > 0 else np.float32(0)
        relevance[i] = own * (scaled + raised[i])
        bound[i] = relevance[i]
    fresh = np.zeros(n, np.int64)  # places already accounted for in `bound`
    nearest = np.zeros(n, np.float32)  # largest cosine with the slate, 0 where all are below
    beyond = np.ones(n, np.float32)  # squared distance from the slate's span
    factors = np.zeros((n if determinantal else 0, places), np.float32)  # rows of the Cholesky factor
    gain = np.zeros(n, np.float32)
    held = np.zeros(len(wanted))  # places of each category, an item's place split over its categories
    widest = 0
    if calibration > 0:
        for i in range(n):
            widest = max(widest, starts[rows[i] + 1] - starts[rows[i]])
    logs = np.empty((len(wanted), widest + 1))
    computed = np.full((len(wanted), widest + 1), -1, np.int32)
    chosen = np.empty(places, np.int64)
    taken = 0
    while taken < places:
        if calibration > 0:
            _gains(rows, open_, starts, members, wanted, held, taken, calibration, logs, computed, gain)
        best = -1
        while True:
            best = -1
            top = np.float32(-np.inf)
            for i in range(n):
                if open_[i]:
                    value = bound[i] + gain[i]
                    if value > top or (best >= 0 and value == top and ties[rows[i]] < ties[rows[best]]):
                        top, best = value, i
            if best < 0 or fresh[best] == taken or spread == 0:
                break
            for place in range(fresh[best], taken):
                other = chosen[place]
                cosine = np.float32(0)
                for k in range(d):
                    cosine += vectors[rows[best], k] * vectors[rows[other], k]
                if determinantal:
                    # The other's own distance was final when it was chosen: e = (S_ij - <c_i, c_j>) / d_j.
                    for k in range(place):
                        cosine -= factors[best, k] * factors[other, k]
                    step = cosine / np.sqrt(max(beyond[other], FLAT))
                    factors[best, place] = step
                    beyond[best] -= step * step
                else:
                    nearest[best] = max(nearest[best], cosine)
            fresh[best] = taken
            apart = np.log(max(beyond[best], FLAT)) if determinantal else -nearest[best]
            bound[best] = relevance[best] + spread * apart
        if best < 0:
            break
        chosen[taken] = best
        taken += 1
        open_[best] = False
        row = rows[best]
        for at in range(starts[row], starts[row + 1]):
            held[members[at]] += 1.0 / (starts[row + 1] - starts[row])
        full = False
        for at in range(cap_starts[row], cap_starts[row + 1]):
            left[cap_members[at]] -= 1
            full |= left[cap_members[at]] <= 0
        if full:
            _close(rows, open_, cap_starts, cap_members, left)
    return chosen[:taken]


@compiled
def _close(
    rows: NDArray[np.int64],
    open_: NDArray[np.bool_],
    starts: NDArray[np.int32],
    members: NDArray[np.int32],
    left: NDArray[np.int32],
) -> None:
    """Take the candidates of full groups out of `open_`, in place."""
    for i in range(len(rows)):
        for at in range(starts[rows[i]], starts[rows[i] + 1]):
            if left[members[at]] <= 0:
                open_[i] = False


@compiled
def _gains(
    rows: NDArray[np.int64],
    open_: NDArray[np.bool_],
    starts: NDArray[np.int32],
    members: NDArray[np.int32],
    wanted: NDArray[np.float64],
    held: NDArray[np.float64],
    taken: int,
    calibration: np.float32,
    logs: NDArray[np.float64],
    computed: NDArray[np.int32],
    gain: NDArray[np.float32],
) -> None:
    """Into `gain`: calibration x the fall of KL(wanted || slate) through each candidate.

    The fall is counted from the slate that is one place longer and has nothing new in it: the same for all candidates,
    so their order is that of the divergence. A category's part depends only on how many an item has: [groups, count]
    `logs` keeps it, `computed` the place that it was computed for.
    """
    rest = 1.0 - SMOOTHING
    for i in range(len(rows)):
        if not open_[i]:
            continue
        row = rows[i]
        count = starts[row + 1] - starts[row]
        total = 0.0
        for at in range(starts[row], starts[row + 1]):
            group = members[at]
            if computed[group, count] != taken:
                computed[group, count] = taken
                before = rest * held[group] + SMOOTHING * wanted[group] * (taken + 1)
                logs[group, count] = wanted[group] * np.log(1 + rest / count / before) if before > 0 else 0.0
            total += logs[group, count]
        gain[i] = calibration * total
