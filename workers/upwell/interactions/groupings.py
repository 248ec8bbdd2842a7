"""The catalogue in; its items by category and fact, as groups over catalogue rows, out: for rules, caps and calibration."""

from __future__ import annotations

import time
from typing import Final

from upwell.ranking.catalogue import Catalogue
from upwell.ranking.groups import Groups, none
from upwell.ranking.knowledge import Knowledge

LEAST_S: Final = 1.0
"""Groups are made again at most this often ..."""
SHARE: Final = 0.05
"""... and in at most this share of a worker's time: 100,000 items take a fraction of a second."""


class Groupings:
    """Of one catalogue; made again when items have come or changed."""

    def __init__(self, catalogue: Catalogue, calibrated: bool) -> None:
        self.categories: Groups = none(0)
        self.knowledge: Knowledge | None = None
        """Of the items when the groups were made; None where none has facts."""
        self.made_of = -1
        """The catalogue's edition that the groups were made of."""
        self._catalogue = catalogue
        self._calibrated = calibrated
        self._again_at = 0.0

    def poll(self) -> None:
        """Follow the catalogue where calibration or reasons need it; rules ask for themselves."""
        if self._calibrated or self._catalogue.facts:
            self.follow()

    def follow(self) -> None:
        """Make the groups again where items have changed and it is time to."""
        began = time.monotonic()
        if self.made_of == self._catalogue.edition or began < self._again_at:
            return
        self.made_of = self._catalogue.edition
        self.categories = Groups.of(self._catalogue.categories)
        told = self._catalogue.facts
        triples = [(row, predicate, name) for row, facts in told.items() for predicate, name in facts]
        self.knowledge = Knowledge(triples, len(self._catalogue)) if triples else None
        done = time.monotonic()
        self._again_at = done + max(LEAST_S, (done - began) / SHARE)

    def fit(self) -> Groups:
        """The categories with room for all rows; items that have come since they were made are in none."""
        if len(self.categories) < len(self._catalogue):
            self.categories = self.categories.wider(len(self._catalogue))
        return self.categories

    def predicates(self) -> dict[str, Groups]:
        """Items by object, for each predicate, with room for all rows."""
        if self.knowledge is None:
            return {}
        items = len(self._catalogue)
        return {name: groups.wider(items) for name, groups in self.knowledge.predicates.items()}

    def shared(self, left: int, right: int) -> tuple[str, str] | None:
        """The rarest fact that two items share, as (predicate, object)."""
        if self.knowledge is None or max(left, right) >= len(self.knowledge.facts):
            return None
        return next(iter(self.knowledge.shared(left, right, 1)), None)
