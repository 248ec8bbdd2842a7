"""What users of a segment liked in; how much likelier an item is with them than with anybody, out. Pure, a function of the log.

A segment is an attribute and its value, such as `country=de`. Likings are counted per segment and of all users. The chance
that a segment's next liking is of an item is shrunk to the share that the item has among all users, the more the fewer
likings the segment has: (count + strength x share) / (likings + strength), the mean of a Dirichlet posterior (Zhai and
Lafferty 2004, section 3, for the same estimate in retrieval). Its logarithm, less that of the share, is what being of the
segment adds to log odds; less what it is for an item that the segment never liked, which changes no order, it is
log(1 + count / (strength x share)).

Counts are halved at every multiple of the half-life in event time: by exact powers of two, so that the same log gives the
same bits. What is seldom is forgotten where there are too many segments, or items of a segment: of twice as many as are
kept the smaller half goes, in the manner of lossy counting (Manku and Motwani 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K")

EVERYBODY: Final = ""
"""The segment of all users."""
SEGMENTS: Final = 512
"""Segments kept at least; twice as many at most."""
ITEMS: Final = 128
"""Items of a segment kept at least; twice as many at most."""
STRENGTH: Final = 50.0
"""So many likings of a segment weigh as much as the shares of all users. Chosen on MovieLens' first half."""
LIKELIER: Final = 1.25
"""An item is said to be popular with a segment where it is so much likelier there than with all users."""


class Held(NamedTuple):
    """What is counted of one segment."""

    total: float
    rows: list[int]
    """Items, in the order in which they came to be counted; likewise counts."""
    counts: list[float]


class Segments:
    """Counts by segment and item row. 0.3 MB for every hundred segments, and 8 bytes an item."""

    def __init__(
        self, half_life_ms: float, strength: float = STRENGTH, segments: int = SEGMENTS, items: int = ITEMS
    ) -> None:
        """
        Args:
            half_life_ms: of event time, in which counts halve.
            strength, segments, items: see the constants.
        """
        self.half_life_ms = half_life_ms
        self.strength = strength
        self.most, self.most_items = segments, items
        self.base = 0
        """Half-lives since the epoch, as of the newest event."""
        self.all: NDArray[np.float64] = np.zeros(1024)
        """[>= rows that were liked] likings of all users."""
        self.total = 0.0
        """Sum of `all`."""
        self.counts: dict[str, dict[int, float]] = {}
        self.totals: dict[str, float] = {}
        """By segment; forgotten items included."""

    def learn(self, time: int, likings: Iterable[tuple[str, int, int]]) -> None:
        """Count likings.

        Args:
            time: ms, of the newest of them.
            likings: (segment, row, how many); those of all users as of the segment `EVERYBODY`.
        """
        self._age(int(time // self.half_life_ms))
        for segment, row, count in likings:
            if segment == EVERYBODY:
                if row >= len(self.all):
                    self.all = np.concatenate([self.all, np.zeros(max(row + 1, 2 * len(self.all)) - len(self.all))])
                self.all[row] += count
                self.total += count
                continue
            held = self.counts.get(segment)
            if held is None:
                if len(self.counts) >= 2 * self.most:
                    self._forget_segments()
                held = self.counts[segment] = {}
                self.totals[segment] = 0.0
            if row not in held and len(held) >= 2 * self.most_items:
                held = self.counts[segment] = _largest(held, self.most_items)
            held[row] = held.get(row, 0.0) + count
            self.totals[segment] += count

    def lift(self, segments: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What being of these segments adds to items' log odds: the mean over the segments.

        Returns:
            [n] int64 rows, ascending, and [n] float32 above 0. All other items: 0.
        """
        rows = np.array(sorted({row for name in segments for row in self.counts.get(name, ())}), np.int64)
        added = np.zeros(len(rows))
        for name in segments:
            if held := self.counts.get(name):
                at = np.searchsorted(rows, np.fromiter(held, np.int64, len(held)))
                counts = np.fromiter(held.values(), np.float64, len(held))
                added[at] += np.log1p(counts / (self.strength * self._share(rows[at])))
        return rows, (added / max(len(segments), 1)).astype(np.float32)

    def likelier(self, segments: Sequence[str], row: int) -> str:
        """The segment with which an item is the likeliest, against all users; empty where it is not `LIKELIER` with any."""
        share = float(self._share(np.array([row]))[0])
        best, named = LIKELIER, ""
        for name in segments:
            count = self.counts.get(name, {}).get(row, 0.0)
            if count:
                chance = (count + self.strength * share) / (self.totals[name] + self.strength)
                if chance >= best * share:
                    best, named = chance / share, name
        return named

    def state(self) -> tuple[int, NDArray[np.float64], dict[str, Held]]:
        """Copies: `base`, `all` and what is counted of each segment."""
        return (
            self.base,
            self.all.copy(),
            {name: Held(self.totals[name], list(held), list(held.values())) for name, held in self.counts.items()},
        )

    def restore(
        self, base: int, everybody: NDArray[np.float64], held: dict[str, Held], rows: NDArray[np.int64]
    ) -> None:
        """Take over a state whose item `a` is row `rows[a]` here.

        Raises:
            IndexError: it names items beyond `rows`.
        """
        self.base = base
        self.all = np.zeros(max(1024, int(rows.max(initial=0)) + 1))
        known = np.flatnonzero(everybody)
        self.all[rows[known]] = everybody[known]
        self.total = float(everybody.sum())
        own = rows.tolist()
        self.counts = {
            name: {own[a]: count for a, count in zip(each.rows, each.counts, strict=True)}
            for name, each in held.items()
        }
        self.totals = {name: each.total for name, each in held.items()}

    def _share(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n] of all users' likings; of what nobody is known to have liked one liking's."""
        counts = np.zeros(len(rows))
        inside = rows < len(self.all)
        counts[inside] = self.all[rows[inside]]
        return np.where(counts > 0, counts, 1.0) / max(self.total, 1.0)

    def _age(self, newest: int) -> None:
        if newest <= self.base:
            return
        factor = 2.0 ** max(self.base - newest, -1000)
        self.base = newest
        self.all *= factor
        self.total *= factor
        for name, held in self.counts.items():
            self.counts[name] = {row: count * factor for row, count in held.items()}
            self.totals[name] *= factor

    def _forget_segments(self) -> None:
        self.totals = _largest(self.totals, self.most)
        self.counts = {name: self.counts[name] for name in self.totals}


def _largest(held: dict[K, float], most: int) -> dict[K, float]:
    """The largest so many; of equal ones those that came first."""
    return dict(sorted(held.items(), key=lambda pair: -pair[1])[:most])
