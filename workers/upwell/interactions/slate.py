"""Scored slates in, ranking records with their reasons out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import RankedItem, Reason
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.scoring import Slates, evidence

EVIDENCE = 64
"""Last liked items among which an item's evidence is looked for."""
LEAST_SHARE = 0.01
"""A scorer that adds less is no reason."""


def ranked_items(catalogue: Catalogue, slates: Slates, user: int, liked: NDArray[np.int64]) -> list[RankedItem]:
    """The slate of one user as published.

    Args:
        slates: of all users of the batch.
        user: the user's row in `slates`.
        liked: [n] catalogue rows that the user liked, oldest first, vectors known.
    """
    rows = slates.rows[user]
    rows = rows[rows >= 0]
    if not len(rows):
        return []
    near: list[int] | None = None
    if len(liked):
        nearest, _ = evidence(catalogue.vectors, rows, liked[-EVIDENCE:])
        near = nearest.tolist()
    found = []
    scores, taste = slates.scores[user].tolist(), slates.taste[user].tolist()
    recent, popular = slates.recent[user].tolist(), slates.popular[user].tolist()
    for place, row in enumerate(rows.tolist()):
        reasons = []
        if near is not None and recent[place] > LEAST_SHARE:
            title = catalogue.titles[near[place]] or catalogue.ids[near[place]]
            reasons.append(Reason("similar", recent[place], f"because you liked {title}", catalogue.ids[near[place]]))
        if near is not None and taste[place] > LEAST_SHARE:
            shared = [c for c in catalogue.categories[row] if c in catalogue.categories[near[place]]]
            text = f"matches your taste for {', '.join(shared[:2])}" if shared else "matches your long-term taste"
            reasons.append(Reason("taste", taste[place], text))
        if popular[place] > LEAST_SHARE:
            reasons.append(Reason("popular", popular[place], "popular now"))
        reasons.sort(key=_share)
        found.append(RankedItem(catalogue.ids[row], scores[place], 1.0, reasons))
    return found


def _share(reason: Reason) -> float:
    return -reason.share
