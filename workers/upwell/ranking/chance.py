"""Keys in, uniform numbers out: chance that is a function of what it is for, so that a replay draws the same.

SplitMix64's output function over a counter (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"): all numbers of a batch at once, where a generator of its own for each slate would cost more than the slate.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

STEP: Final = np.uint64(0x9E3779B97F4A7C15)
"""The golden ratio in 64 bits: SplitMix64's distance between two states."""


def uniforms(
    keys: NDArray[np.uint64], versions: NDArray[np.int64] | NDArray[np.uint64], count: int
) -> NDArray[np.float64]:
    """Numbers that are independent between keys, between versions, and between one another.

    Args:
        keys: [u] uint64, such as the hash of a user's id.
        versions: [u] integers >= 0: what is drawn for, such as the version of the user's ranking.
        count: numbers for each.

    Returns:
        [u, count] float64 in [0, 1), multiples of 2^-53.
    """
    streams = _mixed(_mixed(keys.astype(np.uint64)) + versions.astype(np.uint64) * STEP)
    states = streams[:, None] + np.arange(1, count + 1, dtype=np.uint64) * STEP
    found: NDArray[np.float64] = (_mixed(states) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits in which each bit depends on all; integers wrap, as they should."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
