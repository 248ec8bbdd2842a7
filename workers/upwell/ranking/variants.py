"""Users' keys in, the variant of an experiment that each of them has, out: the same one at every time and in every worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.chance import uniforms

BUCKETS: Final = 10_000
"""Users fall into so many buckets of an experiment; a share is a whole number of them."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Variants by share of users. The first one is the control."""

    salt: int
    """Within 64 bits, such as the hash of the experiment's name: two experiments share out users independently."""
    names: Sequence[str]
    shares: Sequence[float]
    """Of all users; what is left to 1 is in no variant."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shares) or len(set(self.names)) != len(self.names) or len(self.names) < 2:
            raise ValueError(f"{list(self.names)}: at least two variants, each with a name of its own and a share")
        if min(self.shares) <= 0 or sum(self.shares) > 1 + 1e-9:
            raise ValueError(f"{list(self.shares)}: shares are above 0 and sum to 1 at most")
        if not 0 <= self.salt < 2**64:
            raise ValueError(f"{self.salt}: a salt has 64 bits")

    def variants(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Index of each user's variant, -1 for none; keys [u] uint64 are hashes of the users' ids.

        Variants lie behind each other on the line of buckets. Making the last one larger moves nobody who has a variant;
        other changes of shares do, and want another salt.
        """
        bucket = np.floor(uniforms(keys, np.full(len(keys), self.salt, np.uint64), 1)[:, 0] * BUCKETS)
        ends = np.rint(np.cumsum(self.shares) * BUCKETS)
        found = np.searchsorted(ends, bucket, side="right").astype(np.int64)
        return np.where(found < len(self.names), found, -1)
