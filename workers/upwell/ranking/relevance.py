"""Vectors of texts and of a user's profile in, how close each text is to this user rather than to anyone, out. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.profile import unit

SHRINKAGE: Final = 10.0
"""The mean of few profiles is shrunk as if so many of zero were among them: the first user's own is no common taste."""

Floats = NDArray[np.float32]


class Common:
    """What the profiles seen so far have in common: their mean, each counted as often as it was seen."""

    def __init__(self) -> None:
        self._sum: Floats = np.zeros(0, np.float32)
        self._seen = 0

    def see(self, profiles: Floats) -> None:
        """Add profiles, [n, d] float32 of any length; of another d than before, all begins anew."""
        if profiles.shape[1] != len(self._sum):
            self._sum, self._seen = np.zeros(profiles.shape[1], np.float32), 0
        self._sum = self._sum + unit(profiles).sum(0)
        self._seen += len(profiles)

    @property
    def mean(self) -> Floats:
        """[d] float32."""
        mean: Floats = (self._sum / (self._seen + SHRINKAGE)).astype(np.float32)
        return mean


def relevance(texts: Floats, profile: Floats, common: Floats) -> Floats:
    """How much closer each text is to the profile than to what profiles have in common: t . (p - c).

    Without the mean a text that would suit anybody wins: likeness to an average user helps nobody (mean centring, as of
    hubs in nearest-neighbour search: Suzuki et al. 2013, "Centering similarity measures to reduce hubs").

    Args:
        texts: [n, d] float32, unit rows.
        profile: [d] float32, of any length.
        common: [d] float32, the mean of unit profiles.

    Returns:
        [n] float32.
    """
    close: Floats = texts @ (unit(profile[None])[0] - common)
    return close
