"""A ranking whose head has changed in; the trigger for a content about it, with what may be told as the reason, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import ContentTrigger, Ranking
from upwell.events.hashing import arm, identifier, key64, parts_of
from upwell.interactions.slate import EVIDENCE
from upwell.ranking.arms import Arms
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.evidence import tastes, witnesses
from upwell.settings import ContentSettings

WITNESSES: Final = 3
"""Liked items that a trigger names: a text tells two of them, and candidate texts different ones."""
TASTES: Final = 2


def head_changed(
    ranking: Ranking,
    liked: NDArray[np.int64],
    reactions: Mapping[str, Sequence[int]],
    catalogue: Catalogue,
    arms: Arms,
    settings: ContentSettings,
) -> ContentTrigger:
    """The trigger for a text about a ranking's first item.

    A framing is on offer where there is evidence for it; where there is for none, the writer takes the first reason.

    Args:
        ranking: of at least one item.
        liked: [n] catalogue rows that the user liked, oldest first, vectors known.
        reactions: the user's own to contents so far, by arm.
    """
    head = ranking.items[0]
    row, last = catalogue.row(head.item_id), liked[-EVIDENCE:]
    adds = {reason.kind for reason in head.reasons}
    nearest, latest = witnesses(catalogue.vectors, row, last) if adds & {"similar", "new"} else ([], [])
    taste = tastes(catalogue.categories[row], [catalogue.categories[n] for n in last.tolist()], TASTES)
    offered = {
        "similar": bool(nearest),
        "recent": bool(latest),
        "taste": "taste" in adds and bool(taste),
        "popular": "popular" in adds,
    }
    framings: list[str] = [framing for framing in settings.framings if offered[framing]]
    drawn = arms.choose(
        [arm(format_, framing) for format_ in settings.formats for framing in framings or [""]],
        reactions,
        np.random.default_rng(key64(ranking.ranking_id)),
    )
    format_, framing = parts_of(drawn)
    return ContentTrigger(
        trigger_id=identifier("head_changed", ranking.ranking_id, ranking.user_id),
        kind="head_changed",
        cause=ranking.ranking_id,
        user_id=ranking.user_id,
        item_id=head.item_id,
        created=ranking.publish_time,
        ranking_id=ranking.ranking_id,
        because=[catalogue.ids[n] for n in (latest if framing == "recent" else nearest)[:WITNESSES]],
        reasons=head.reasons,
        format=format_,
        framing=framing,
        taste=taste,
    )
