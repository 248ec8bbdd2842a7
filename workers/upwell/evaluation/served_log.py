"""A deployment's rankings, interactions and item features in; arrays of them out. Reads only, as no member of any group.

What is told apart by time is told apart by log time: when the broker took an event, when a ranking was published. Event
times may lie years back.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from upwell.bus import topics
from upwell.bus.reader import LogReader
from upwell.bus.topics import Topic
from upwell.evaluation.recorded import LAST, Recorded, Stretch, Tick, recorded, starts
from upwell.events.contracts import InteractionType
from upwell.ranking.groups import Groups
from upwell.ranking.learner import Tuning
from upwell.settings import Events, Settings

LIKED: Final = float(Tuning().liked)
"""An event of at least this weight is a liking, as the learner takes it: a rating of 4 of 5, a click."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rankings:
    """r rankings by publication, with k places each."""

    user: Ints
    """[r] numbers of users."""
    published: Ints
    """[r] ms, ascending."""
    event_time: Ints
    """[r] ms."""
    slate: Ints
    """[r, k] item rows, best first; -1 where there is none."""
    propensity: NDArray[np.float64]
    """[r, k] of the item at its place; 1 where nothing is drawn, or there is none."""
    best: NDArray[np.float64]
    """[r] score of the first place; nan where there is none."""
    variant: Ints
    """[r] index into `Served.variants`; -1 for none."""
    by_events: NDArray[np.bool_]
    """[r] whether events caused it, and no request or deletion."""
    earlier: int = 0
    """So many of the first ones are from before the stretch: the last one of each user, by which what came next is judged."""


@dataclass(frozen=True, slots=True)
class Happened:
    """e events as the broker took them."""

    user: Ints
    item: Ints
    """[e] rows; -1 where the event names no item."""
    logged: Ints
    """[e] ms, ascending."""
    weight: NDArray[np.float64]
    liked: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    """[e] impressions."""
    ranking: Ints
    """[e] the ranking that the event names, if it is its user's; -1 for none."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a deployment showed, and what people did."""

    rankings: Rankings
    events: Happened
    users: int
    items: list[str]
    """Ids by row; the first ones are the catalogue, the others are known by events or rankings alone."""
    categories: Groups
    """Of the catalogue."""
    variants: list[str]
    attributes: dict[str, dict[int, str]] = field(default_factory=dict)
    """By name of a key of events' context: user to the latest value."""
    reasons: Counter[str] = field(default_factory=Counter)
    """By kind: what it added to the scores of what was shown, summed."""
    first_reasons: Counter[str] = field(default_factory=Counter)
    """By kind: places whose first reason it is."""
    notes: list[str] = field(default_factory=list)

    @property
    def catalogue(self) -> int:
        """Items that could be shown."""
        return len(self.categories)


class _Reason(msgspec.Struct, gc=False):
    kind: str
    share: float


class _Item(msgspec.Struct, gc=False):
    item_id: str
    score: float
    reasons: list[_Reason] = []
    propensity: float = 1.0


class Published(msgspec.Struct, gc=False):
    """Of a published ranking, what is looked at."""

    ranking_id: str
    user_id: str
    items: list[_Item]
    trigger: str
    event_time: int
    publish_time: int
    variant: str = ""


class Shown(msgspec.Struct, gc=False):
    """The same without its reasons, which are added up: a tenth of the memory."""

    ranking_id: str
    user_id: str
    items: tuple[str, ...]
    chances: tuple[float, ...]
    """Propensities of the last places, from the first one that is drawn; empty where none is."""
    best: float
    by_events: bool
    event_time: int
    publish_time: int
    variant: str
    reasons: tuple[tuple[str, float], ...]
    """Kinds, and what each added to the scores."""
    first: tuple[str, ...]
    """Kind of each place's first reason."""


class Feature(msgspec.Struct, gc=False):
    """Of an item's features, what is looked at."""

    item_id: str
    categories: list[str] = []


def read(settings: Settings, stretch: Stretch, group_by: Sequence[str], tick: Tick = lambda *_: None) -> Served:
    """A stretch of a running deployment.

    Args:
        group_by: keys of events' context.

    Raises:
        Unavailable: the broker does not answer, or a topic is not there.
        Inconsistent: records were deleted while they were being read.
    """
    found = recorded(settings, stretch, tick)
    cut = len(found.events) == stretch.last
    since = max(stretch.since_ms or 0, found.logged[0] if cut else 0)
    published, earlier, left_out = _published(settings, stretch, since, tick)
    served = arrays(found, published, _features(settings), settings.events, group_by, earlier)
    if cut or left_out:
        served.notes.append(f"only the last {stretch.last:,} events and rankings were looked at (--last)")
    return served


def arrays(
    found: Recorded,
    published: Sequence[Shown],
    features: Iterable[Feature],
    events: Events,
    group_by: Sequence[str] = (),
    earlier: int = 0,
) -> Served:
    """The same from what was read, rankings in order of publication, the first `earlier` of them from before the stretch."""
    users: dict[str, int] = {}
    variants: dict[str, int] = {}
    named = {feature.item_id: feature.categories for feature in features}
    rows = {item: row for row, item in enumerate(sorted(named))}
    reasons, first = Counter[str](), Counter[str]()
    ids: dict[str, int] = {}
    ranked: list[tuple[int, int, int, float, int, bool]] = []
    slate = np.full((len(published), max((len(one.items) for one in published), default=0) or 1), -1, np.int64)
    propensity = np.ones(slate.shape)
    for place, one in enumerate(published):
        ids[one.ranking_id] = place
        variant = variants.setdefault(one.variant, len(variants)) if one.variant else -1
        user = users.setdefault(one.user_id, len(users))
        ranked.append((user, one.publish_time, one.event_time, one.best, variant, one.by_events))
        slate[place, : len(one.items)] = [rows.setdefault(item, len(rows)) for item in one.items]
        propensity[place, len(one.items) - len(one.chances) : len(one.items)] = one.chances
        if place >= earlier:
            first.update(one.first)
            for kind, share in one.reasons:
                reasons[kind] += share  # type: ignore[assignment]  # sums of shares are no whole numbers
    table = np.array(ranked, np.float64).reshape(-1, 6)
    owner, time, event_time, variant_of, by_events = (table[:, n].astype(np.int64) for n in (0, 1, 2, 4, 5))
    rankings = Rankings(
        owner, time, event_time, slate, propensity, table[:, 3], variant_of, by_events.astype(bool), earlier
    )
    happened = _happened(found, events, users, rows, ids, rankings)
    attributes: dict[str, dict[int, str]] = {key: {} for key in group_by}
    for event in found.events:
        for key in group_by:
            value = (event.context or {}).get(key)
            if isinstance(value, str | int | bool):
                attributes[key][users[event.user_id]] = str(value)
    categories = Groups.of([named[item] for item in sorted(named)])
    return Served(rankings, happened, len(users), list(rows), categories, list(variants), attributes, reasons, first)


def brief(one: Published, names: dict[str, str]) -> Shown:
    """What is kept of a ranking; `names` holds each name once, however many rankings name it."""
    reasons = Counter[str]()
    for item in one.items:
        for why in item.reasons:
            reasons[why.kind] += why.share  # type: ignore[assignment]
    first_drawn = next((at for at, item in enumerate(one.items) if item.propensity < 1), len(one.items))
    return Shown(
        one.ranking_id,
        names.setdefault(one.user_id, one.user_id),
        tuple(names.setdefault(item.item_id, item.item_id) for item in one.items),
        tuple(item.propensity for item in one.items[first_drawn:]),
        one.items[0].score if one.items else np.nan,
        one.trigger == "events",
        one.event_time,
        one.publish_time,
        names.setdefault(one.variant, one.variant),
        tuple((names.setdefault(kind, kind), share) for kind, share in reasons.items()),
        tuple(names.setdefault(kind, kind) for item in one.items if item.reasons for kind in (item.reasons[0].kind,)),
    )


def _happened(
    found: Recorded,
    events: Events,
    users: dict[str, int],
    rows: dict[str, int],
    ids: dict[str, int],
    rankings: Rankings,
) -> Happened:
    count = len(found.events)
    user, item, ranking = np.zeros(count, np.int64), np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    weight, shown = np.zeros(count), np.zeros(count, bool)
    for at, event in enumerate(found.events):
        user[at] = users.setdefault(event.user_id, len(users))
        if event.item_id:
            item[at] = rows.setdefault(event.item_id, len(rows))
        weight[at] = events.weight(event.type, event.value)
        shown[at] = event.type == InteractionType.IMPRESSION
        named = ids.get(event.ranking_id or "", -1)
        if named >= 0 and rankings.user[named] == user[at]:
            ranking[at] = named
    return Happened(user, item, np.array(found.logged, np.int64), weight, weight >= LIKED, shown, ranking)


def _published(settings: Settings, stretch: Stretch, since: int, tick: Tick) -> tuple[list[Shown], int, bool]:
    """Rankings by publication: of each user the last one before the stretch, then those of the stretch.

    Returns:
        Them, how many are from before, and whether the stretch holds more than the last ones that are wanted.
    """
    topic = topics.real(settings.kafka, Topic.RANKINGS)
    # From before the stretch as well, but no more than what may be held.
    begin, total = starts(settings.kafka, topic, Stretch(None, stretch.until_ms, max(stretch.last, LAST)))
    decode = msgspec.json.Decoder(Published).decode
    until = stretch.until_ms or np.iinfo(np.int64).max
    names: dict[str, str] = {}
    inside: list[tuple[int, int, int, Shown]] = []
    before: dict[str, tuple[int, int, int, Shown]] = {}
    done, cut = 0, False
    reader = LogReader(settings.kafka, topic, "served", begin)
    try:
        for messages in reader.to_end():
            for message in messages:
                if message.value() is None:  # an erased user
                    continue
                published = decode(message.value())
                if published.publish_time >= until:
                    continue
                one = (published.publish_time, message.partition(), message.offset(), brief(published, names))
                if one[0] >= since:
                    if len(inside) < stretch.last:
                        heapq.heappush(inside, one)
                        continue
                    one, cut = heapq.heappushpop(inside, one), True
                held = before.get(one[3].user_id)
                if held is None or held[:3] < one[:3]:
                    before[one[3].user_id] = one
            tick("rankings", min(done := done + len(messages), total), total)
    finally:
        reader.close()
    earlier, later = (sorted(some, key=lambda place: place[:3]) for some in (before.values(), inside))
    return [one for *_, one in [*earlier, *later]], len(earlier), cut


def _features(settings: Settings) -> list[Feature]:
    decode = msgspec.json.Decoder(Feature).decode
    held: dict[bytes, Feature] = {}
    reader = LogReader(settings.kafka, topics.real(settings.kafka, Topic.ITEM_FEATURES), "served")
    try:
        for messages in reader.to_end():
            for message in messages:
                if message.value() is None:
                    held.pop(message.key(), None)
                else:
                    held[message.key()] = decode(message.value())
    finally:
        reader.close()
    return list(held.values())
