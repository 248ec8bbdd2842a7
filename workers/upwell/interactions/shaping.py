"""A user's candidates in, those that make the slate out: boosts and caps of rules, diversity, calibrated categories."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.interactions.groupings import Groupings
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import Chosen
from upwell.ranking.rules import InForce
from upwell.ranking.slate import Shape, slate, warm
from upwell.settings import Settings


class Shaping:
    """Of one worker. Where nothing is in force the best candidates are the slate, and nothing is computed."""

    def __init__(self, settings: Settings, catalogue: Catalogue, groupings: Groupings) -> None:
        own, self._places = settings.shaping, settings.ranking.slate
        self._shape = Shape(self._places, own.method, own.diversity, own.calibration)
        self._candidates = max(settings.ranking.candidates, self._places)
        self._deep = max(self._candidates, own.candidates)
        self._catalogue = catalogue
        self._groupings = groupings
        if own.diversity or own.calibration:
            warm()

    def depth(self, force: InForce | None) -> int:
        """Candidates of a user that a slate is made of: with boosts and caps more, which lift and which leave out."""
        return self._deep if force is not None and _shapes(force) else self._candidates

    def slates(
        self, candidates: list[Chosen], liked: list[NDArray[np.int64]], force: InForce | None
    ) -> list[NDArray[np.int64]]:
        """Which candidates of each user make the slate, best place first.

        Args:
            candidates: per user, best first.
            liked: per user rows that the user liked: their categories are what a slate is calibrated to.

        Returns:
            Per user [k] int64 indices of candidates, k <= `ranking.slate`.
        """
        ruled = force if force is not None and _shapes(force) else None
        if ruled is None and not self._shape.diversity and not self._shape.calibration:
            return [np.arange(min(self._places, len(one.rows))) for one in candidates]
        return [self._slate(one, own, ruled) for one, own in zip(candidates, liked, strict=True)]

    def _slate(self, chosen: Chosen, liked: NDArray[np.int64], ruled: InForce | None) -> NDArray[np.int64]:
        catalogue, categories, wanted = self._catalogue, None, None
        if self._shape.calibration:
            categories = self._groupings.fit()
            wanted = categories.shares(liked, np.ones(len(liked)))
        rows = slate(
            chosen.rows,
            chosen.scores,
            catalogue.vectors,
            catalogue.ties,
            self._shape,
            raised=None if ruled is None else ruled.raised[chosen.rows],
            caps=None if ruled is None else ruled.caps,
            categories=categories,
            wanted=wanted,
        )
        at = {row: index for index, row in enumerate(chosen.rows.tolist())}
        return np.array([at[row] for row in rows.tolist()], np.int64)


def _shapes(force: InForce) -> bool:
    """Whether rules change which candidates make the slate."""
    return bool(len(force.caps.most)) or bool(force.raised.any())
