"""One number per judged event, and whose it was, in; quality by user group with intervals out. Pure.

Events of one user resemble each other, so users are what is sampled: the mean is a ratio of two sums over users, its
variance that of the ratio (Cochran 1977, section 6.3), and the interval Student's with one degree of freedom less than
users. Each group is compared with all others as well: the two are different people, so their variances add.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Quality:
    """One group's figure. Bounds are nan where fewer than two users make it."""

    users: int
    events: int
    mean: float
    low: float
    high: float
    gap: float
    """Its mean minus that of all users outside it."""
    gap_low: float
    gap_high: float

    @property
    def worse(self) -> bool:
        """Whether the group is served worse than the others, beyond what the interval allows for chance."""
        return self.gap_high < 0


def by_group(
    values: NDArray[np.float64], users: NDArray[np.int64], group: NDArray[np.int64], groups: int, level: float = 0.95
) -> list[Quality]:
    """Quality of each group.

    Args:
        values: [n] float64, for example 1 for a hit and 0 for a miss.
        users: [n] int64, the user of each, from 0.
        group: [users] int64 by user, from 0; -1 for a user of none, who counts among the others of each.
        groups: how many there are.
        level: of the intervals; they hold for each group alone. For all together give 1 - (1 - level) / groups.
    """
    count = np.bincount(users, minlength=len(group)).astype(np.float64)
    total = np.bincount(users, values, minlength=len(group))
    seen = count > 0
    found = []
    for number in range(groups):
        inside, outside = seen & (group == number), seen & (group != number)
        mean, variance, freedom = _ratio(total[inside], count[inside])
        other, other_variance, other_freedom = _ratio(total[outside], count[outside])
        half = _student(level, freedom) * np.sqrt(variance)
        both = variance + other_variance
        # Welch and Satterthwaite's degrees of freedom of a difference.
        parts = variance**2 / max(freedom, 1) + other_variance**2 / max(other_freedom, 1)
        wide = _student(level, both**2 / parts if parts > 0 else freedom + other_freedom) * np.sqrt(both)
        gap = mean - other
        found.append(
            Quality(
                int(inside.sum()), int(count[inside].sum()), mean, mean - half, mean + half, gap, gap - wide, gap + wide
            )
        )
    return found


def _ratio(totals: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[float, float, float]:
    """The ratio of two sums over users, its variance, and the degrees of freedom; nan where there is no user, or one."""
    users = len(counts)
    if not users:
        return float("nan"), float("nan"), 0.0
    ratio = float(totals.sum() / counts.sum())
    if users < 2:
        return ratio, float("nan"), 0.0
    residual = totals - ratio * counts
    variance = users / (users - 1) * float(residual @ residual) / float(counts.sum()) ** 2
    return ratio, variance, users - 1.0


def _student(level: float, freedom: float) -> float:
    """Two-sided quantile of Student's distribution: Cornish and Fisher's expansion, within 2% from 3 degrees on."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    if not freedom > 0:
        return float("nan")
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
