"""How strongly something trends: this window's weight against the last one's. Numbers in, a number out, no state.

A count of independent events is close to Poisson, so its standard deviation is the root of its expectation. The score
is the surprise in standard deviations: SigniTrend's significance (Schubert, Weiler and Kriegel, KDD 2014, section 3)
with the previous window as the expectation, and with its bias term against the noise of rare keys.
"""

from __future__ import annotations

import math

BIAS = 4.0
"""Weight that is always expected: a key that nobody has seen before needs more than this to stand out. It damps the
growth of small counts (from 1 to 3 says little, from 100 to 300 much) and keeps the root away from zero."""


def score(weight: float, previous: float, bias: float = BIAS) -> float:
    """Standard deviations by which `weight` exceeds what the previous window lets expect.

    `(weight - previous) / sqrt(previous + bias)`: 0 where nothing changed, positive on growth, negative on decline.
    Below-zero weights (more dislikes than likes) count as nothing expected. A running window is compared with the
    whole previous one, so scores compare keys within one window, not one window with the next.

    Args:
        weight: Sum of event weights in this window.
        previous: The same in the window before; 0 where there was none.
        bias: Additive smoothing, in the unit of `weight`, > 0.
    """
    expected = max(previous, 0.0)
    return (weight - expected) / math.sqrt(expected + bias)


def window_of(time_ms: int, width_ms: int) -> int:
    """Start of the window that holds `time_ms`; windows are half-open, aligned to the Unix epoch."""
    return time_ms - time_ms % width_ms
