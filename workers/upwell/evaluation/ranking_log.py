"""A dataset in; the arrays that rankings are tested on out: rows, valences, targets, in time order.

Events of the same time are ordered by a hash of what they are, and item rows by a hash of their ids: neither the order
of the file's rows nor that of its ids says anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from upwell.evaluation.datasets import Dataset
from upwell.events.contracts import Interaction, InteractionType
from upwell.ranking.learner import CATEGORIES, Stream
from upwell.settings import Events

LIKED_RATING = 4.0
"""Ratings of five of at least this are targets."""
SCALES = (1.0, 5.0, 10.0)
"""Ratings are of one, of five or of ten, by the largest of them; what is larger is no rating but a count or an amount."""


@dataclass(frozen=True, slots=True)
class RankingLog:
    """e events of u users and i items."""

    name: str
    users: int
    items: list[str]
    """Ids by row."""
    stream: Stream
    again: NDArray[np.bool_]
    """[e] whether the user has had the item before."""
    live: NDArray[np.bool_]
    """[i] the candidates: items that the catalogue names."""
    category: NDArray[np.int32]
    """[i, CATEGORIES] numbers from 1; 0 is none."""
    categories: list[str]
    """By number - 1."""
    order: NDArray[np.int64]
    """[e] which interaction of the dataset each event is."""
    notes: list[str]

    @property
    def events(self) -> int:
        return len(self.stream.item)

    @property
    def targets(self) -> NDArray[np.bool_]:
        """[e] what rankings are judged by: liked, not had before."""
        return self.stream.target & ~self.again

    def first(self, events: int) -> RankingLog:
        """The same with the earliest events alone."""
        whole = self.stream
        cut = Stream(
            whole.user[:events], whole.item[:events], whole.valence[:events], whole.time[:events], whole.target[:events]
        )
        return RankingLog(
            self.name, self.users, self.items, cut, self.again[:events], self.live, self.category, self.categories,
            self.order[:events], self.notes,
        )  # fmt: skip


def ranking_log(dataset: Dataset, events: Events) -> RankingLog:
    """Arrays of a dataset's preferences; events without an item, or of a type without weight, are left out.

    A rating of at least `LIKED_RATING` is a target, and so is an event without value whose type weighs at least as much
    as half a click. Ratings of one or of ten are taken as the same part of five. Where all values are the same, or some are
    above ten, they count as clicks. The notes say so, and what was left out.
    """
    notes = list(dataset.notes)
    if dataset.refused:
        notes.append(f"{len(dataset.refused):,} rows were refused, the first: {dataset.refused[0]}")
    named = {item.item_id for item in dataset.items}
    ids = sorted(named | {event.item_id for event in dataset.interactions if event.item_id}, key=_hash)
    row = {item: number for number, item in enumerate(ids)}
    values = {event.value for event in dataset.interactions if event.value is not None}
    rated = len(values) > 1
    largest = max(values, default=0.0)
    scale = next((scale for scale in SCALES if largest <= scale), None)
    if len(values) == 1:
        notes.append(f"all values are {values.pop()}: each event counts as a click")
    elif rated and scale is None:
        rated = False
        notes.append(f"values up to {largest:g} are no ratings: each event counts as a click")
    elif rated and scale != 5:
        notes.append(f"values up to {largest:g} are taken as ratings of {scale:g}: {0.8 * (scale or 5):g} is liked")
    factor = 5 / (scale or 5)
    unknown = Counter(
        event.type for event in dataset.interactions if event.item_id and event.type not in events.weights
    )
    if unknown:
        types = ", ".join(f"{name} ({count:,})" for name, count in unknown.most_common(5))
        notes.append(f"types without a weight are left out: {types}; --set events.weights.NAME=1 gives them one")
    slots: dict[str, int] = {}
    found = []
    for number, event in enumerate(dataset.interactions):
        if event.item_id and (weight := _weight(event, events, rated, factor)):
            found.append((event.ts, _hash(f"{event.user_id}\0{event.item_id}\0{event.ts}"), number, weight))
    found.sort()
    order = np.array([number for _, _, number, _ in found], np.int64)
    log = [dataset.interactions[number] for number in order]
    valence = np.clip([weight for _, _, _, weight in found], -1, 1).astype(np.float32)
    target = np.array(
        [
            factor * event.value >= LIKED_RATING
            if _is_rating(event, rated) and event.value is not None
            else valence[at] >= 0.5
            for at, event in enumerate(log)
        ],
        bool,
    )
    user = np.array([slots.setdefault(event.user_id, len(slots)) for event in log], np.int32)
    item = np.array([row[event.item_id or ""] for event in log], np.int32)
    had: set[tuple[int, int]] = set()
    again = np.zeros(len(log), bool)
    for at, pair in enumerate(zip(user.tolist(), item.tolist(), strict=True)):
        again[at] = pair in had
        had.add(pair)
    category, categories = _categories(dataset, row)
    live = np.array([each in named for each in ids], bool)
    stream = Stream(user, item, valence, np.array([event.ts for event in log], np.int64), target)
    return RankingLog(dataset.name, len(slots), ids, stream, again, live, category, categories, order, notes)


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _is_rating(event: Interaction, rated: bool) -> bool:
    return rated and event.type == InteractionType.RATING.value


def _weight(event: Interaction, events: Events, rated: bool, factor: float) -> float:
    if _is_rating(event, rated) and event.value is not None:
        # A neutral rating is an event all the same: the least weight that is not none.
        return events.weight(event.type, factor * event.value) or 1e-6
    return (
        events.weights["click"] if event.type == InteractionType.RATING.value else events.weights.get(event.type, 0.0)
    )


def _categories(dataset: Dataset, row: dict[str, int]) -> tuple[NDArray[np.int32], list[str]]:
    names = sorted({name for item in dataset.items for name in item.categories})
    number = {name: at + 1 for at, name in enumerate(names)}
    table = np.zeros((len(row), CATEGORIES), np.int32)
    for item in dataset.items:
        held = [number[name] for name in item.categories[:CATEGORIES]]
        table[row[item.item_id], : len(held)] = held
    return table, names
