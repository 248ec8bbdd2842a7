"""Vectors of texts and profiles, and what is known of users, in; whose text is whose, and groups that differ, out. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.content_measures import Measure, differ, wilson
from upwell.ranking.profile import unit
from upwell.training.judging import AMONG, found_among_ten

Floats = NDArray[np.float32]
SMALLEST_GROUP: Final = 10
"""A smaller group says nothing."""
ALARM: Final = 0.05
"""Probability that an alarm is raised where no group differs, all comparisons of a report together (Bonferroni)."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group's share in one rate."""

    kind: str
    """What the users are grouped by."""
    name: str
    rate: str
    hits: int
    n: int
    low: float
    high: float
    others: float | None
    """The rate of all others; None where there are none."""
    alarm: bool

    def as_dict(self) -> dict[str, Any]:
        found = {
            "by": self.kind,
            "group": self.name,
            "rate": self.rate,
            "value": round(self.hits / self.n, 4),
            "n": self.n,
        }
        found |= {"low": round(self.low, 4), "high": round(self.high, 4)}
        return found | {"others": None if self.others is None else round(self.others, 4), "alarm": self.alarm}


def closer(
    texts: Floats, owners: Sequence[str], profiles: Mapping[str, Floats], seed: int
) -> tuple[NDArray[np.bool_], float]:
    """Whether each text is closer, by cosine, to its user's profile than to that of another user.

    Args:
        texts: float32 [n, d], unit length.
        owners: user id of each.
        profiles: user id to float32 [d]; at least two users, every owner among them.
        seed: draws the other user.

    Returns:
        bool [n] against one user drawn for each text, and the share over all other users.
    """
    users = sorted(profiles)
    place = {user: number for number, user in enumerate(users)}
    matrix = unit(np.stack([profiles[user] for user in users]))
    rows = np.array([place[owner] for owner in owners])
    cosines = texts @ matrix.T
    own = cosines[np.arange(len(texts)), rows]
    others = np.random.default_rng(seed).integers(0, len(users) - 1, len(texts))
    others += others >= rows
    everywhere = (own[:, None] > cosines).sum(1) / (len(users) - 1)
    drawn: NDArray[np.bool_] = own > cosines[np.arange(len(texts)), others]
    return drawn, float(everywhere.mean())


def centred(texts: Floats, profiles: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
    """Texts and profiles, each of unit length, without their mean: what all have in common tells nobody apart."""
    users = sorted(profiles)
    rows = unit(np.stack([profiles[user] for user in users]))
    rows = rows - rows.mean(0)
    return unit(texts - texts.mean(0)), dict(zip(users, rows, strict=True))


def own_and_others(texts: Floats, owners: Sequence[str], profiles: Mapping[str, Floats]) -> list[tuple[float, float]]:
    """Of each text the cosine with its own user's profile, and the mean of those with all others. Arguments as `closer`."""
    users = sorted(profiles)
    place = {user: number for number, user in enumerate(users)}
    cosines = texts @ unit(np.stack([profiles[user] for user in users])).T
    own = cosines[np.arange(len(texts)), [place[owner] for owner in owners]]
    others = (cosines.sum(1) - own) / (len(users) - 1)
    return [(float(one), float(other)) for one, other in zip(own, others, strict=True)]


def right_of_ten(texts: Floats, owners: Sequence[str], profiles: Mapping[str, Floats], seed: int) -> Measure:
    """How often a user's profile finds the user's own text among ten; one text of each user, drawn by `seed`.

    The mean over all profiles, and over all texts, is taken off first: what all have in common is no answer.
    """
    rng = np.random.default_rng(seed)
    chosen: dict[str, int] = {}
    for number in rng.permutation(len(owners)):
        chosen.setdefault(owners[number], int(number))
    if len(chosen) < AMONG:
        return Measure("right_user_of_ten", None, lacking=f"texts of {len(chosen)} users; {AMONG} are needed")
    users = sorted(chosen)
    asked = unit(np.stack([profiles[user] for user in users]))
    found = found_among_ten(asked, texts[[chosen[user] for user in users]])
    low, high = wilson(found * len(users), len(users))
    return Measure("right_user_of_ten", found, len(users), low, high)


def activity(events: Mapping[str, int]) -> dict[str, str]:
    """Users in thirds by their number of events; equal numbers are in one group."""
    if not events:
        return {}
    low, high = np.quantile(list(events.values()), (1 / 3, 2 / 3))
    names = (
        f"least active: up to {int(low)} events",
        f"middle: up to {int(high)} events",
        f"most active: more than {int(high)} events",
    )
    return {user: names[0 if n <= low else 1 if n <= high else 2] for user, n in events.items()}


def majority(likes: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Each user's commonest category; of equally common ones the first by name."""
    return {user: min(counts, key=lambda name: (-counts[name], name)) for user, counts in likes.items() if counts}


def compare(rates: Mapping[str, Mapping[str, Sequence[bool]]], groups: Mapping[str, Mapping[str, str]]) -> list[Group]:
    """Every rate in every group with its 95% interval (Wilson 1927), and an alarm where it differs from all others'.

    Args:
        rates: rate to user to its trials: whether it was so.
        groups: kind of group to user to group.

    Groups of fewer than ten trials are left out. An alarm is raised where the interval of the difference does not hold 0,
    so wide that all comparisons together raise one in 5% of reports in which no group differs (Bonferroni).
    """
    counted: list[tuple[str, str, str, int, int, int, int]] = []
    for kind, of_user in groups.items():
        for rate, trials in rates.items():
            hits: Counter[str] = Counter()
            total: Counter[str] = Counter()
            for user, outcomes in trials.items():
                if user in of_user:
                    hits[of_user[user]] += sum(outcomes)
                    total[of_user[user]] += len(outcomes)
            counted += [
                (kind, name, rate, hits[name], n, hits.total() - hits[name], total.total() - n)
                for name, n in sorted(total.items())
                if n >= SMALLEST_GROUP
            ]
    z = _quantile(1 - ALARM / (2 * max(1, len(counted))))
    found = []
    for kind, name, rate, hit, n, other_hits, others in counted:
        enough = others >= SMALLEST_GROUP
        alarm = enough and differ(hit, n, other_hits, others, z)
        low, high = wilson(hit, n)
        found.append(Group(kind, name, rate, hit, n, low, high, other_hits / others if enough else None, alarm))
    return found


def _quantile(probability: float) -> float:
    """Of the standard normal distribution."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def told_truly(history: Mapping[int, float], items: Sequence[int]) -> bool:
    """Whether the user has an event of positive weight with any of the items. `history`: item's hash to largest weight."""
    return any(history.get(item, -math.inf) > 0 for item in items)
