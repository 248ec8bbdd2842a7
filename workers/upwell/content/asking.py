"""A request, or a trigger, and what Postgres knows of its items in; what is asked of the writer, and what each of its
candidates tells, out.

The one place that decides what is told as the reason: evaluation judges by it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

import msgspec

from upwell.content.kinds import Asked
from upwell.content.plan import REQUEST
from upwell.content.prompt import MAX_BECAUSE, display_title, facts_of
from upwell.events.contracts import ContentTrigger, Reason, Request, TextKind
from upwell.events.hashing import identifier
from upwell.store.contents import ContentStore, ItemFacts

ENGLISH: Final = "en"
"""The language of all kinds of texts but the recommendation: their prompts, checks and templates know no other."""


def trigger_of(request: Request, now: int) -> ContentTrigger:
    """A request that came at `now`, ms, as what causes its content. Without an item: the user's best one."""
    return ContentTrigger(
        trigger_id=identifier(REQUEST, request.request_id, request.user_id),
        kind=REQUEST,
        cause=request.request_id,
        user_id=request.user_id,
        item_id=request.item_id or "",
        created=now,
        priority="high",
        format=request.format,
        language=request.language,
        text_kind=request.text_kind,
        question=request.question,
        reviews=request.reviews,
    )


def item_of(trigger: ContentTrigger, slate: Sequence[str], items: Mapping[str, ItemFacts]) -> str | None:
    """The item that a trigger is about: its own, or the first of the user's `slate`; None where none is left."""
    choices = [trigger.item_id] if trigger.item_id else slate
    return next((c for c in choices if c in items and not items[c].deleted), None)


def nothing_about(trigger: ContentTrigger) -> str:
    """Why there is no item, for whoever asked."""
    what = f"item {trigger.item_id} is deleted or not known" if trigger.item_id else "the user has no ranking yet"
    return f"{what}: there is nothing to write about"


PERSONAL: Final = frozenset({TextKind.RECOMMENDATION, TextKind.SUBJECT, TextKind.DESCRIPTION})
"""Kinds of texts that give a reason."""


def with_reason(trigger: ContentTrigger, item_id: str, store: ContentStore) -> ContentTrigger:
    """A request with what speaks for the item it is about: the liked item that is nearest to it.

    Raises: psycopg.OperationalError.
    """
    liked = store.nearest_liked(trigger.user_id, item_id) if trigger.text_kind in PERSONAL else None
    if liked is None:
        return trigger
    reason = Reason("similar", liked.cosine, f"because you liked {display_title(liked.title)[0]}", liked.item_id)
    return msgspec.structs.replace(trigger, because=[liked.item_id], reasons=[reason])


def asked_of(trigger: ContentTrigger, item_id: str, items: Mapping[str, ItemFacts]) -> Asked:
    """What a trigger asks for about an item. `items`: the item, and those of `trigger.because` that are known."""
    item = items[item_id]
    because = tuple(display_title(items[b].title)[0] for b in evidence(trigger, item_id, items))
    first = trigger.reasons[0].kind if trigger.reasons else ""
    # The nearest and the latest of the liked items are told in the same words.
    reason = {"recent": "similar"}.get(trigger.framing, trigger.framing) or ("similar" if because else first)
    if (reason == "similar" and not because) or (reason == "taste" and not trigger.taste):
        reason = ""
    kind = TextKind(trigger.text_kind)
    return Asked(
        kind,
        facts_of(item.title or item_id, item.categories, item.attributes, item.description),
        because,
        reason,
        tuple(trigger.taste),
        question=trigger.question,
        reviews=tuple(trigger.reviews),
        language=(trigger.language or ENGLISH) if kind is TextKind.RECOMMENDATION else ENGLISH,
    )


def evidence(trigger: ContentTrigger, item_id: str, items: Mapping[str, ItemFacts]) -> tuple[str, ...]:
    """The user's items that may be named as the reason, by id, the most telling first."""
    return tuple(b for b in trigger.because if b in items and b != item_id and items[b].title)


def variants(asked: Asked) -> list[Asked]:
    """What to ask for in one candidate after the other: of the user's items as many as a prompt holds, the first ones
    first."""
    told = list(combinations(asked.because, min(MAX_BECAUSE, len(asked.because))))
    return [replace(asked, because=because) for because in told]
