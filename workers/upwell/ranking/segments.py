"""Who the user is, in attributes, in; what people like that consume, out: the prior of a user without a history. Pure.

Decayed popularity is kept per segment, such as `age=25-34` or `country=de`, and each segment's shares are shrunk to those
of all users, the more the fewer events it has: (count + strength x share of all) / (events + strength), the mean of a
Dirichlet posterior (Zhai and Lafferty 2004, section 3, for the same estimate in retrieval).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.popularity import Popularity


class Segments:
    """Decayed popularity of items with all users and per segment; a function of the log that it learns from."""

    def __init__(self, half_life_ms: float, strength: float = 100.0, most: int = 1000) -> None:
        """Args:
        half_life_ms: event time after which an event counts half.
        strength: so many events of a segment weigh as much as all users' shares.
        most: segments kept; events of further ones count for all users alone, so that free-text attributes are bounded.
        """
        self.half_life_ms = half_life_ms
        self.strength = strength
        self.most = most
        self.all = Popularity(half_life_ms)
        self.by_segment: dict[str, Popularity] = {}

    def learn(
        self, rows: Sequence[int], times: Sequence[int], weights: Sequence[float], segments: Sequence[Iterable[str]]
    ) -> None:
        """Add events of known users' segments; all of equal length. Times are ms, weights those of event types."""
        self.all.learn(rows, times, weights)
        events: dict[str, list[int]] = {}
        for event, named in enumerate(segments):
            for segment in named:
                events.setdefault(segment, []).append(event)
        for segment, at in events.items():
            held = self.by_segment.get(segment)
            if held is None:
                if len(self.by_segment) == self.most:
                    continue
                held = self.by_segment[segment] = Popularity(self.half_life_ms)
            held.learn([rows[e] for e in at], [times[e] for e in at], [weights[e] for e in at])

    def prior(self, segments: Iterable[str], now: int, rows: int) -> NDArray[np.float32]:
        """What a user of these segments is likely to consume.

        Args:
            now: ms; no event is later. Decides how much the segments' events still weigh against `strength`.
            rows: catalogue rows.

        Returns:
            [rows] float32 that sum to 1, or to 0 while nothing is known: the mean over the segments that are known,
            of each one's shrunk shares.
        """
        counts = self._counts(self.all, now, rows)
        total = counts.sum()
        if total <= 0:
            return np.zeros(rows, np.float32)
        share: NDArray[np.float64] = counts / total
        known = [self.by_segment[segment] for segment in sorted(set(segments)) if segment in self.by_segment]
        if not known:
            return share.astype(np.float32)
        mixed = np.zeros(rows)
        for popularity in known:
            own = self._counts(popularity, now, rows)
            mixed += (own + self.strength * share) / (own.sum() + self.strength)
        prior: NDArray[np.float32] = (mixed / len(known)).astype(np.float32)
        return prior

    def _counts(self, popularity: Popularity, now: int, rows: int) -> NDArray[np.float64]:
        """[rows] float64, decayed sums as of now; what is disliked on balance counts nothing."""
        counts = np.zeros(rows)
        held = popularity.sums[:rows]
        counts[: len(held)] = np.maximum(held, 0) * 2.0 ** min(popularity.base - now / self.half_life_ms, 0.0)
        return counts
