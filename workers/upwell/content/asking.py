"""A trigger and what Postgres knows of its items in; what is asked of the writer out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from upwell.content.kinds import Asked
from upwell.content.prompt import display_title, facts_of
from upwell.events.contracts import ContentTrigger, TextKind
from upwell.store.contents import ItemFacts

TELLING: Final = 0.5
"""The user's own item is told as the reason where its share is at least this much of the largest: "popular" says less.
"""

ENGLISH: Final = "en"
"""The language of all kinds of texts but the recommendation: their prompts, checks and templates know no other."""


def asked_of(trigger: ContentTrigger, item_id: str, items: Mapping[str, ItemFacts]) -> Asked:
    """What a trigger asks for about an item. `items`: the item, and those of `trigger.because` that are known."""
    item = items[item_id]
    because = tuple(
        display_title(items[b].title)[0] for b in trigger.because if b in items and b != item_id and items[b].title
    )
    shares = {reason.kind: reason.share for reason in trigger.reasons}
    reason = trigger.reasons[0].kind if trigger.reasons else ""
    if because and shares.get("similar", 0.0) >= TELLING * max(shares.values(), default=0.0):
        reason = "similar"
    elif reason == "similar":
        reason = ""
    kind = TextKind(trigger.text_kind)
    return Asked(
        kind,
        facts_of(item.title or item_id, item.categories, item.attributes, item.description),
        because,
        reason,
        question=trigger.question,
        reviews=tuple(trigger.reviews),
        language=(trigger.language or ENGLISH) if kind is TextKind.RECOMMENDATION else ENGLISH,
    )
