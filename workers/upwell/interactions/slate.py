"""Scored slates in, ranking records with their reasons out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import RankedItem, Reason
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.evidence import nearest
from upwell.ranking.ranker import CONTENT, KINDS, SEGMENTS, Chosen
from upwell.ranking.reasons import NOBODY, Kind, reasons, worded

EVIDENCE = 64
"""Last liked items among which an item's evidence is looked for."""
LEAST_SHARE = 0.01
"""A scorer that adds less is no reason."""


def had(events: NDArray[np.void]) -> NDArray[np.int32]:
    """[n] int32 rows of a history's items that are no candidates: those with an event that is a preference."""
    rows: NDArray[np.int32] = events["row"][(events["row"] >= 0) & (events["weight"] != 0)].astype(np.int32)
    return rows


def _nothing(left: int, right: int) -> None:
    """No facts are known."""


def ranked_items(
    catalogue: Catalogue,
    chosen: Chosen,
    evidence: tuple[NDArray[np.int64], NDArray[np.int64]],
    liked: NDArray[np.int64],
    now: int,
    shared: Callable[[int, int], tuple[str, str] | None] = _nothing,
    segment: Callable[[int], str] | None = None,
    propensity: NDArray[np.float64] | None = None,
) -> list[RankedItem]:
    """A slate as published.

    Args:
        evidence: of each item, as `Ranker.evidence` finds it.
        liked: [n] catalogue rows that the user liked, oldest first, vectors known.
        now: event time of the ranking, ms.
        shared: the fact that two items, as rows, have in common, (predicate, object); a reason names it beside its evidence.
        segment: of the user, in words, with which an item, as a row, is popular: asked where segments added to the score.
        propensity: [k] of each item at its place; None where nothing is drawn.
    """
    if not len(chosen.rows):
        return []
    count, scorers = chosen.contributions.shape
    rows = np.full((count, scorers), NOBODY, np.int64)
    times = np.zeros((count, scorers), np.int64)
    for scorer, kind in enumerate(KINDS):
        if kind is Kind.SIMILAR:
            rows[:, scorer], times[:, scorer] = evidence
    alike = np.flatnonzero(chosen.contributions[:, CONTENT] > LEAST_SHARE)
    if len(liked) and len(alike):
        rows[alike, CONTENT] = nearest(catalogue.vectors, chosen.rows[alike], liked[-EVIDENCE:])
    found = []
    whys = reasons(chosen.contributions, KINDS, rows, times, LEAST_SHARE)
    by_segment = (chosen.contributions[:, SEGMENTS] > LEAST_SHARE).tolist()
    chances = [1.0] * count if propensity is None else propensity.tolist()
    for row, score, chance, of_item, of_segment in zip(
        chosen.rows.tolist(), chosen.scores.tolist(), chances, whys, by_segment, strict=True
    ):
        told = []
        for why in of_item:
            near = why.row if why.row != NOBODY else None
            title = (catalogue.titles[near] or catalogue.ids[near]) if near is not None else ""
            within = segment(row) if segment and of_segment and why.kind is Kind.POPULAR else ""
            text = worded(why, title, catalogue.categories[row], now=now, segment=within)
            if near is not None and (fact := shared(row, near)) is not None:
                text += f" (both: {fact[0]} {fact[1]})"
            item_id = catalogue.ids[near] if near is not None else None
            told.append(Reason(why.kind, why.share, text, item_id, why.time or None))
        found.append(RankedItem(catalogue.ids[row], score, chance, told))
    return found
