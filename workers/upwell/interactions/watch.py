"""Rankings as they are made, and likings as they come, in; the metrics that show how rankings fare, counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from upwell.interactions.profiles import Shown
from upwell.ranking.drift import Rate
from upwell.ranking.ranker import FEW, Ranker, valence_of
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.interactions")

ANEW_S: Final = 10.0
"""What counts as popular is looked up this often."""


class Watch:
    """Of one worker. `upwell evaluate served` says the same, and more, of all of them together."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._rate = Rate()
        self._popularity: NDArray[np.float32] = np.zeros(0, np.float32)
        """Events of each candidate, ascending."""
        self._anew_at = 0.0

    def happened(self, shown: Sequence[Shown], item_id: str, weight: float, logged: int) -> None:
        """Count an event with an item that its user has not had.

        Args:
            shown: the user's last slates, the newest one last.
            logged: when the broker took it, ms. A slate that was published since is none that the user had before it.
        """
        if valence_of(weight) < self._ranker.tuning.liked:
            return
        before = next((slate for slate in reversed(shown) if slate.time < logged), None)
        if before is None:
            return
        hit = any(item == item_id for item, _ in before.items)
        metrics.RANKING_TARGETS.inc()
        metrics.RANKING_HITS.inc(hit)
        if moved := self._rate.add(hit):
            direction = "up" if moved > 0 else "down"
            metrics.RANKING_MOVES.labels(direction).inc()
            log.warning("ranking.hit_rate_moved", direction=direction)

    def ranked(self, slates: Sequence[NDArray[np.int64]]) -> None:
        """Count slates, as catalogue rows."""
        counts, live = self._ranker.shared.counts, self._ranker.shared.live
        if time.monotonic() >= self._anew_at:
            self._anew_at = time.monotonic() + ANEW_S
            self._popularity = np.sort(counts[live])
        events = counts[np.concatenate(slates)]
        metrics.RANKING_PLACES.inc(len(events))
        metrics.RANKING_NEW.inc(int((events < FEW).sum()))
        below = np.searchsorted(self._popularity, events)
        metrics.RANKING_POPULARITY.inc(float(below.sum()) / max(len(self._popularity) - 1, 1))
