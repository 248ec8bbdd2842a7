"""The catalogue in; its items by category, as groups over catalogue rows, out: for rules, caps and calibration."""

from __future__ import annotations

import time
from typing import Final

from upwell.ranking.catalogue import Catalogue
from upwell.ranking.groups import Groups, none

LEAST_S: Final = 1.0
"""Groups are made again at most this often ..."""
SHARE: Final = 0.05
"""... and in at most this share of a worker's time: 100,000 items take a fraction of a second."""


class Groupings:
    """Of one catalogue; made again when items have come or changed."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.categories: Groups = none(0)
        self._catalogue = catalogue
        self._edition = -1
        self._again_at = 0.0

    def follow(self) -> bool:
        """Make the groups again where items have changed and it is time to; returns whether they were."""
        began = time.monotonic()
        if self._edition == self._catalogue.edition or began < self._again_at:
            return False
        self._edition = self._catalogue.edition
        self.categories = Groups.of(self._catalogue.categories)
        done = time.monotonic()
        self._again_at = done + max(LEAST_S, (done - began) / SHARE)
        return True

    def fit(self) -> Groups:
        """The categories with room for all rows; items that have come since they were made are in none."""
        if len(self.categories) < len(self._catalogue):
            self.categories = self.categories.wider(len(self._catalogue))
        return self.categories
