"""Scored slates in, ranking records with their reasons out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import RankedItem, Reason
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import KINDS, Chosen
from upwell.ranking.reasons import NOBODY, Kind, reasons, worded
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


def had(events: NDArray[np.void]) -> NDArray[np.int32]:
    """[n] int32 rows of a history's items that are no candidates: those with an event that is a preference."""
    rows: NDArray[np.int32] = events["row"][(events["row"] >= 0) & (events["weight"] != 0)].astype(np.int32)
    return rows


def with_reasons(catalogue: Catalogue, chosen: Chosen, liked: NDArray[np.int64], now: int) -> list[RankedItem]:
    """A slate of the learned ranking as published.

    Args:
        liked: [n] catalogue rows that the user liked, oldest first, vectors known.
        now: event time of the ranking, ms.
    """
    if not len(chosen.rows):
        return []
    count, scorers = chosen.contributions.shape
    rows = np.full((count, scorers), NOBODY, np.int64)
    times = np.zeros((count, scorers), np.int64)
    for scorer, kind in enumerate(KINDS):
        if kind is Kind.SIMILAR:
            rows[:, scorer], times[:, scorer] = chosen.evidence, chosen.evidence_time
    if len(liked):
        rows[:, -1] = evidence(catalogue.vectors, chosen.rows, liked[-EVIDENCE:])[0]
    found = []
    whys = reasons(chosen.contributions, KINDS, rows, times, LEAST_SHARE)
    for row, score, of_item in zip(chosen.rows.tolist(), chosen.scores.tolist(), whys, strict=True):
        told = []
        for why in of_item:
            near = why.row if why.row != NOBODY else None
            title = (catalogue.titles[near] or catalogue.ids[near]) if near is not None else ""
            text = worded(why, title, catalogue.categories[row], now=now)
            told.append(Reason(why.kind, why.share, text, catalogue.ids[near] if near is not None else None))
        found.append(RankedItem(catalogue.ids[row], score, 1.0, told))
    return found


def _share(reason: Reason) -> float:
    return -reason.share
