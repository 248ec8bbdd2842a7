"""New items, and what users like, in; who is shown which new item, until each has had its first impressions, out. Pure.

How often each item was shown is learned from the log, so that all workers hold the same. To whom is decided where the user
is: the fit of a user and an item is the cosine of interest and vector, less what it is on average among the latest users.
Only fits above a bound are placed, and the bound follows the quantile of the users' best fits that leaves `share` of them
above it (Robbins and Monro, 1951, "A stochastic approximation method"): whom new items suit best, at low traffic as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
STEP = 0.01
"""What the bound moves by, in cosines."""
LATEST = 500
"""Users that the average interest is of, roughly."""


class FirstImpressions:
    """How often new items were shown, and how well one has to fit to be placed."""

    def __init__(self, quota: int, share: float) -> None:
        """
        Args:
            quota: impressions of each new item; 0 owes nobody anything.
            share: of the slates that may carry an item because it is owed.
        """
        self.quota = quota
        self.share = share
        self.began = 0
        """Log time of the first statistics, ms: items known before are no news. 0: nothing was learned yet."""
        self.shown: NDArray[np.int64] = np.zeros(0, np.int64)
        """[>= rows that were shown] impressions by catalogue row."""
        self.bound = 0.0
        """The least fit that is placed."""
        self._mean: NDArray[np.float32] = np.zeros(0, np.float32)

    def learn(self, row: int, times: int) -> None:
        """Count impressions of an item."""
        if row >= len(self.shown):
            self.shown = np.concatenate([self.shown, np.zeros(row + 1024 - len(self.shown), np.int64)])
        self.shown[row] += times

    def owed(self, few: NDArray[np.int64], since: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of candidates that nobody or few had, those that are new and still owed something.

        Args:
            few: [f] int64 rows, ascending.
            since: [items] int64, log time of each item's features, ms.

        Returns:
            [o] int64 rows, ascending.
        """
        if not self.quota or not self.began:
            return np.zeros(0, np.int64)
        new = few[since[few] > self.began]
        return new[self.left(new) > 0]

    def left(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] int64, impressions that items are still owed; below 0 where they had more."""
        shown = np.zeros(len(rows), np.int64)
        held = rows < len(self.shown)
        shown[held] = self.shown[rows[held]]
        return self.quota - shown

    def choose(
        self,
        interests: NDArray[np.float32],
        vectors: NDArray[np.float32],
        left: NDArray[np.int64],
        barred: Sequence[NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """An owed item for some of u users.

        Args:
            interests: [u, d] float32, any length; a user whose interest is zero is given nothing.
            vectors: [o, d] float32, unit rows, of the owed items.
            left: [o] int64, what each is owed; what is placed here is taken off.
            barred: per user the indices into the owed items that are not for this user.

        Returns:
            [u] int64 indices into the owed items, NOBODY for users who are given none.
        """
        chosen = np.full(len(interests), NOBODY, np.int64)
        length = np.linalg.norm(interests, axis=1, keepdims=True)
        units = np.divide(interests, length, out=np.zeros_like(interests), where=length > 0)
        if self._mean.shape != units.shape[1:]:
            self._mean = np.zeros(units.shape[1], np.float32)
        fits = (units - self._mean) @ vectors.T
        for user in np.flatnonzero(length[:, 0] > 0).tolist():
            self._mean += (units[user] - self._mean) / np.float32(LATEST)
            fit = np.where(left > 0, fits[user], -np.inf)
            fit[barred[user]] = -np.inf
            best = int(np.argmax(fit))
            if not np.isfinite(fit[best]):
                continue
            above = bool(fit[best] > self.bound)
            self.bound += STEP * (above - self.share)
            if above:
                chosen[user] = best
                left[best] -= 1
        return chosen
