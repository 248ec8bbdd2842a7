"""Users in; how each of them is ranked, by the experiment's variant that the user is in, out.

A user's variant is a function of the user's id and the experiment's name: the same in every worker and after every restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upwell.events.hashing import key64
from upwell.interactions.groupings import Groupings
from upwell.interactions.shaping import Shaping
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.variants import Experiment
from upwell.settings import Ranking, Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """How some users are ranked."""

    variant: str
    """Empty: of users who are in none."""
    ranking: Ranking
    shaping: Shaping


class Policies:
    """Of one worker. Without an experiment there is one, and nothing is computed."""

    def __init__(self, settings: Settings, catalogue: Catalogue, groupings: Groupings) -> None:
        self._own, *self._of_variants = (
            Policy(name, own.ranking, Shaping(own, catalogue, groupings)) for name, own in settings.by_variant().items()
        )
        experiment = settings.experiment
        self._experiment = (
            Experiment(
                key64(experiment.name),
                [each.name for each in experiment.variants],
                [each.share for each in experiment.variants],
            )
            if experiment.variants
            else None
        )

    def split(self, users: Sequence[str]) -> list[tuple[Policy, Sequence[int]]]:
        """Users by policy.

        Args:
            users: u ids.

        Returns:
            Policies that anybody has, each with the ascending indices of its users; each index once.
        """
        if self._experiment is None:
            return [(self._own, range(len(users)))]
        variants = self._experiment.variants(np.array([key64(user) for user in users], np.uint64))
        found: list[tuple[Policy, Sequence[int]]] = []
        for number, policy in enumerate([self._own, *self._of_variants], -1):
            at: list[int] = np.flatnonzero(variants == number).tolist()
            if at:
                found.append((policy, at))
        return found
