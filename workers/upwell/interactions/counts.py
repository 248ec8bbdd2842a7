"""Applied events and feedback of one batch in; what they add to shared learning out, as `statistics` records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from upwell.events.contracts import CategoryCount, ItemCount, ItemShown, ReactionCount, SegmentCount, Statistics
from upwell.interactions.lessons import Taught
from upwell.interactions.readers import SHARD
from upwell.ranking.catalogue import Catalogue

COUNTS_PER_RECORD = 500
"""Ids and categories are bounded, so that a record of so many counts and lessons stays below a broker's usual limit."""


@dataclass(slots=True)
class Counts:
    """What a batch adds to shared learning."""

    window_ms: int
    taught: Taught
    events: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    weights: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))
    reactions: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    shown: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """First impressions by item."""
    likings: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """By segment of user and item."""
    newest: int = 0

    def add(self, item_id: str, time_ms: int, weight: float) -> None:
        key = (item_id, time_ms - time_ms % self.window_ms)
        self.events[key] += 1
        self.weights[key] += weight
        self.newest = max(self.newest, time_ms)

    def react(self, name: str, time_ms: int, shown: int, liked: int) -> None:
        """Feedback to a content of arm `name`."""
        totals = self.reactions[name, time_ms - time_ms % self.window_ms]
        totals[0] += shown
        totals[1] += liked

    def like(self, item_id: str, segments: Iterable[str]) -> None:
        for segment in segments:
            self.likings[segment, item_id] += 1

    def records(self, catalogue: Catalogue) -> list[Statistics]:
        """The counts as records of bounded size."""
        categories: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0, 0.0])
        for (item_id, window), count in self.events.items():
            row = catalogue.find(item_id)
            for category in catalogue.categories[row] if row >= 0 else ():
                total = categories[category, window]
                total[0] += count
                total[1] += self.weights[item_id, window]
        items = [ItemCount(item, w, n, round(self.weights[item, w], 6)) for (item, w), n in self.events.items()]
        named = [CategoryCount(name, w, int(n), round(x, 6)) for (name, w), (n, x) in categories.items()]
        seen = [ItemShown(item, times) for item, times in self.shown.items()]
        liked = [SegmentCount(segment, item, times) for (segment, item), times in self.likings.items()]
        size = COUNTS_PER_RECORD
        lessons = list(self.taught.records(catalogue.ids, size))
        records = []
        for number in range(max(len(lessons), *(-(-len(each) // size) for each in (items, named, seen, liked)))):
            part = slice(number * size, (number + 1) * size)
            ids, told = lessons[number] if number < len(lessons) else ([], None)
            records.append(
                Statistics(
                    SHARD, items[part], named[part], self.newest, lesson_items=ids, taught=told, shown=seen[part],
                    segments=liked[part],
                )
            )  # fmt: skip
        if records:
            records[0].reactions = [ReactionCount(name, w, *totals) for (name, w), totals in self.reactions.items()]
        return records
