"""What a deployment showed and what people did in; how good, how fair and how steady its rankings were, out. Pure.

Test, then learn, on what was published: each liking of an item that the user had not had is judged by the ranking that the
user had before it. Nothing here is a promise of causes: people who were shown an item had more occasion to like it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation import served_joins, served_variants
from upwell.evaluation.content_measures import wilson
from upwell.evaluation.ranking import COLD
from upwell.evaluation.served_drift import Drift, drift
from upwell.evaluation.served_log import Ints, Served
from upwell.ranking import exposure, group_quality
from upwell.ranking.group_quality import Quality
from upwell.ranking.ranker import FEW

PERIODS: Final = 24
LEAST: Final = 50
"""Targets of a period, and events of anything else that is told over time."""
LARGEST: Final = 12
"""Values of an attribute, or categories, that are told apart: those of most users."""
FEWEST_USERS: Final = 10
"""Of a group."""
PERCENTILES: Final = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    window_s: float = 7 * 86_400
    """After their first ranking under a variant users are watched for so long."""
    planned: int = 10_000
    """Users of each variant at which intervals are to be narrowest."""
    shares: dict[str, float] = field(default_factory=dict)
    """Of users by variant as planned, the control first; empty: not known, and not compared with what came."""
    tolerance: float = 0.2
    """A group raises an alarm that is surely below the others by more than this part of their hit rate: the four-fifths rule
    (Uniform Guidelines on Employee Selection Procedures 1978), beyond chance."""


@dataclass(frozen=True, slots=True)
class Period:
    """Some targets in a row."""

    since: int
    """Log time of the first one, ms."""
    targets: int
    hr: float
    ndcg: float
    low: float
    high: float
    """Wilson's 95% interval of `hr`."""


@dataclass(frozen=True, slots=True)
class Group:
    """Users compared with all others, by hit rate."""

    kind: str
    """What they are grouped by."""
    name: str
    quality: Quality
    alarm: bool


@dataclass(slots=True)
class ServedEvaluation:
    """What was found. `as_dict` is the JSON of the command."""

    served: Served
    plan: Plan
    hits: Ints
    """[t] place of each target on the slate before it, -1 where it is on none."""
    periods: list[Period]
    clicks: list[tuple[int, int]] | None
    """By position from the first: times shown, and times taken of these; None where no impressions were recorded."""
    by_category: exposure.Shares
    by_popularity: exposure.Shares | None
    """None where there are fewer than two halves."""
    gini: float
    """Of the exposure over the catalogue."""
    consumed_gini: float
    coverage: float
    novelty: float
    """Mean bits of a place."""
    new_share: float
    """Of places with an item of fewer than `FEW` events by then."""
    cold: Ints
    """[c] those of `hits` whose user had fewer than `COLD` events in the stretch before."""
    groups: list[Group]
    drift: Drift
    experiment: dict[str, Any] | None
    staleness: dict[str, float] | None
    """Percentiles of publish time minus event time, ms."""
    delay: dict[str, float] | None
    """... of publish time minus the time at which the broker took the latest event before it."""
    unjudged: int
    """Likings of new items by users without a ranking before them."""
    notes: list[str]

    @property
    def hr(self) -> float:
        return float((self.hits >= 0).mean()) if len(self.hits) else float("nan")

    @property
    def ndcg(self) -> float:
        return float(gain(self.hits).mean()) if len(self.hits) else float("nan")

    @property
    def alarms(self) -> list[str]:
        """In words; empty where all is well."""
        worse = [
            f"{group.kind} {group.name}: hit rate {group.quality.mean:.3f}, {-group.quality.gap:.3f} below the others"
            for group in self.groups
            if group.alarm
        ]
        shared = self.experiment and self.experiment["sharing"]
        uneven = ["experiment: users were not shared out as planned"] if shared and not shared["as_planned"] else []
        return worse + self.drift.alarms + uneven

    def as_dict(self) -> dict[str, Any]:
        served, slate = self.served, self.served.rankings.slate
        reasons, first = served.reasons, served.first_reasons
        return {
            "rankings": len(slate) - served.rankings.earlier,
            "events": len(served.events.user),
            "users": served.users,
            "items": served.catalogue,
            "places": slate.shape[1],
            "targets": len(self.hits),
            "targets_without_a_ranking": self.unjudged,
            "hit_rate": _round(self.hr),
            "ndcg": _round(self.ndcg),
            "cold": {"targets": len(self.cold), "hit_rate": _round(float((self.cold >= 0).mean())) if len(self.cold) else None},
            "hits_by_position": np.bincount(self.hits[self.hits >= 0], minlength=slate.shape[1]).tolist(),
            "over_time": [
                {"since": p.since, "targets": p.targets, "hit_rate": _round(p.hr), "low": _round(p.low),
                 "high": _round(p.high), "ndcg": _round(p.ndcg)} for p in self.periods
            ],
            "click_through": {"not_measured": "no impression names a ranking"} if self.clicks is None else [
                {"position": n + 1, "shown": shown, "taken": taken, "rate": _round(taken / shown) if shown else None}
                for n, (shown, taken) in enumerate(self.clicks)
            ],
            "coverage": _round(self.coverage),
            "novelty_bits": _round(self.novelty),
            "new_item_share": _round(self.new_share),
            "gini": _round(self.gini),
            "gini_of_consumption": _round(self.consumed_gini),
            "exposure_by_category": _shares(self.by_category),
            "exposure_by_popularity": _shares(self.by_popularity) if self.by_popularity is not None else [],
            "groups": [
                {"kind": g.kind, "name": g.name, "users": g.quality.users, "targets": g.quality.events,
                 "hit_rate": _round(g.quality.mean), "low": _round(g.quality.low), "high": _round(g.quality.high),
                 "gap": _round(g.quality.gap), "gap_low": _round(g.quality.gap_low),
                 "gap_high": _round(g.quality.gap_high), "worse": bool(g.quality.worse), "alarm": g.alarm} for g in self.groups
            ],
            "drift": self.drift.as_dict(),
            "experiment": self.experiment,
            "reasons": {
                kind: {"share": _round(part / reasons.total()), "first": _round(first[kind] / max(first.total(), 1))}
                for kind, part in reasons.most_common()
            },
            "staleness_ms": self.staleness,
            "event_to_ranking_ms": self.delay,
            "alarms": self.alarms,
            "notes": self.notes,
        }  # fmt: skip


def evaluate(served: Served, plan: Plan = Plan()) -> ServedEvaluation:
    """All figures of a stretch of a deployment."""
    rankings, events = served.rankings, served.events
    within = slice(rankings.earlier, None)
    notes = list(served.notes)
    ranking = served_joins.seen(rankings, events)
    new = served_joins.news(events) & events.liked
    judged = new & (ranking >= 0)
    place = served_joins.places(rankings, ranking, events.item)
    hits, at, users = place[judged], events.logged[judged], events.user[judged]
    middle = int(events.logged[len(events.logged) // 2]) if len(events.logged) else 0
    by_category, by_popularity, ginis = _exposure(served, middle)
    slates = rankings.slate[within]
    shown = np.unique(slates[slates >= 0])
    own, everything = (counts[within] for counts in served_joins.taken_before(rankings, events))
    surprise = served_joins.surprise(own, everything, len(served.items))
    before, _ = served_joins.before(events.user, events.logged, users, at)
    staleness = _percentiles((rankings.published - rankings.event_time)[within][rankings.by_events[within]])
    if staleness is not None and staleness["p50"] > 86_400_000:
        notes.append(
            "event times lie days before the publication of what they led to: recorded events were played back"
        )
    return ServedEvaluation(
        served, plan, hits, periods(hits, at), _clicks(served), by_category, by_popularity, *ginis,
        coverage=float((shown < served.catalogue).sum()) / max(served.catalogue, 1),
        novelty=float(np.nanmean(surprise)) if np.isfinite(surprise).any() else float("nan"),
        new_share=float((own[own >= 0] < FEW).mean()) if (own >= 0).any() else float("nan"),
        cold=hits[before < COLD],
        groups=groups(served, hits, users, plan.tolerance),
        drift=drift(rankings, events, hits, at),
        experiment=served_variants.compare(served, plan, judged, place, notes),
        staleness=staleness,
        delay=_delay(served),
        unjudged=int((new & (ranking < 0)).sum()),
        notes=notes,
    )  # fmt: skip


def gain(hits: Ints) -> NDArray[np.float64]:
    """[t] DCG of each target, of which its slate holds one at most: 1 / log2(place + 2), or 0 (Jaervelin and Kekaelaeinen
    2002)."""
    return np.where(hits >= 0, 1 / np.log2(np.maximum(hits, 0) + 2.0), 0.0)


def periods(hits: Ints, at: Ints, most: int = PERIODS) -> list[Period]:
    """Hit rate over time, in parts of equally many targets; `at` are their log times, ascending."""
    count = max(1, min(most, len(hits) // LEAST))
    found = []
    for part in np.array_split(np.arange(len(hits)), count):
        if len(part):
            taken = int((hits[part] >= 0).sum())
            low, high = wilson(taken, len(part))
            found.append(
                Period(int(at[part[0]]), len(part), taken / len(part), float(gain(hits[part]).mean()), low, high)
            )
    return found


def groups(served: Served, hits: Ints, users: Ints, tolerance: float) -> list[Group]:
    """Hit rate of groups of users: by activity, by the category that they like most, and by given attributes.

    Intervals hold for all groups together: one report in twenty has a false alarm.
    """
    kinds = [_activity(served), _favourites(served)]
    kinds += [_largest(key, values, served.users) for key, values in served.attributes.items()]
    kinds = [kind for kind in kinds if len(np.unique(kind[2][kind[2] >= 0])) > 1]
    level = 1 - 0.05 / max(1, sum(len(names) for _, names, _ in kinds))
    values = (hits >= 0).astype(np.float64)
    return [
        Group(kind, name, quality, bool(quality.gap_high < -tolerance * (quality.mean - quality.gap)))
        for kind, names, group in kinds
        for name, quality in zip(
            names, group_quality.by_group(values, users, group, len(names), level), strict=True
        )
        if quality.events
    ]  # fmt: skip


Kind = tuple[str, list[str], Ints]
"""What users are grouped by, the groups' names, and [users] the group of each, -1 for none."""


def _activity(served: Served) -> Kind:
    count = np.bincount(served.events.user, minlength=served.users)
    active = count[count > 0]
    if not len(active):
        return "activity", [], np.zeros(0, np.int64)
    low, high = (int(edge) for edge in np.quantile(active, [1 / 3, 2 / 3], method="higher"))
    group = np.where(count > 0, (count > low).astype(np.int64) + (count > high), -1)
    names = [f"up to {low} events", f"{low + 1} to {high} events", f"more than {high} events"]
    return "activity", names, group


def _favourites(served: Served) -> Kind:
    events, categories = served.events, served.categories
    liked = np.flatnonzero(events.liked & (events.item >= 0) & (events.item < served.catalogue))
    which, category = categories.members_of(events.item[liked])
    width = max(len(categories.names), 1)
    pairs, often = np.unique(events.user[liked][which] * width + category, return_counts=True)
    order = np.argsort(often, kind="stable")  # of a user's pairs the most frequent one is written last
    favourite = np.full(served.users, -1)
    favourite[pairs[order] // width] = pairs[order] % width
    named = {user: categories.names[number] for user, number in enumerate(favourite.tolist()) if number >= 0}
    return _largest("favourite category", named, served.users)


def _largest(kind: str, values: dict[int, str], users: int) -> Kind:
    """The values of most users, and who has them."""
    common = Counter(values.values()).most_common(LARGEST)
    names = [name for name, count in common if count >= FEWEST_USERS]
    number = {name: n for n, name in enumerate(names)}
    group = np.full(users, -1, np.int64)
    for user, value in values.items():
        group[user] = number.get(value, -1)
    return kind, names, group


def _exposure(served: Served, middle: int) -> tuple[exposure.Shares, exposure.Shares | None, tuple[float, float]]:
    """Of the second half of the time, by category and by popularity in the first half; and how unequal exposure and
    consumption are."""
    rankings, events, size = served.rankings, served.events, served.catalogue
    late = rankings.slate[rankings.earlier :][rankings.published[rankings.earlier :] >= middle]
    late = np.where(late < size, late, -1)
    received = exposure.exposure(late, size)
    taking = events.liked & (events.item >= 0) & (events.item < size)
    later = events.logged >= middle
    consumed = np.bincount(events.item[taking & later], minlength=size).astype(np.float64)
    before = np.bincount(events.item[taking & ~later], minlength=size).astype(np.float64)
    ties = np.random.default_rng(0).integers(0, 2**63, size).astype(np.uint64)
    by_popularity = exposure.by_popularity(received, consumed, before, ties) if before.any() else None
    by_category = exposure.by_group(received, consumed, served.categories)
    return by_category, by_popularity, (exposure.gini(received), exposure.gini(consumed))


def _clicks(served: Served) -> list[tuple[int, int]] | None:
    """By position: impressions that name a ranking, each once, and those of them that were liked there."""
    width = served.rankings.slate.shape[1]
    places = served_joins.clicks(served.rankings, served.events, np.ones(len(served.events.user), bool))
    if not len(places[0]):
        return None
    each = [np.bincount(keys % width, minlength=width).tolist() for keys in places]
    return list(zip(*each, strict=True))


def _delay(served: Served) -> dict[str, float] | None:
    rankings, events = served.rankings, served.events
    asked = rankings.earlier + np.flatnonzero(rankings.by_events[rankings.earlier :])
    # At the same millisecond or before: an event that a ranking answers at once.
    _, latest = served_joins.before(events.user, events.logged, rankings.user[asked], rankings.published[asked] + 1)
    known = latest >= 0
    return _percentiles(rankings.published[asked][known] - events.logged[latest[known]])


def _percentiles(values: Ints) -> dict[str, float] | None:
    return {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES} if len(values) else None


def _shares(shares: exposure.Shares) -> list[dict[str, Any]]:
    columns = (shares.exposure, shares.items, shares.per_item, shares.per_consumption)
    return [
        {"name": name, "exposure": _round(got), "items": _round(has), "per_item": _round(per_item),
         "per_consumption": _round(per_taken)}
        for name, got, has, per_item, per_taken in zip(shares.names, *columns, strict=True)
    ]  # fmt: skip


def _round(value: float) -> float | None:
    """For JSON, which has no nan."""
    return round(float(value), 4) if np.isfinite(value) else None
