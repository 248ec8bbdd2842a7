"""Events as they come in; how many a second come, and so which share of them keeps below a limit, out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

SPAN_S: Final = 10.0
"""Rates are means of about so long: what comes in a burst is told in full."""


class Rate:
    """Exponentially weighted; the clock is this worker's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._per_s = 0.0

    def share(self, events: int, limit_per_s: float) -> float:
        """Count events, and say which share of them is not more than the limit, in (0, 1]."""
        now = self._clock()
        self._per_s = self._per_s * math.exp((self._at - now) / SPAN_S) + events / SPAN_S
        self._at = now
        return min(1.0, limit_per_s / self._per_s) if self._per_s else 1.0
