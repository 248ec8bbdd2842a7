"""Results by the trigger that caused them, and the facts that texts are written from.

The insert decides between two workers; the trigger's place in the log decides between a redelivery and a duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool

from upwell.events.contracts import Media
from upwell.events.hashing import key64
from upwell.store import arrays, database
from upwell.store.database import sql
from upwell.store.history import largest_weights

MOST_NEAR: Final = 500
"""Nearest items among which liked ones are looked for: what is further off is no reason."""


@dataclass(frozen=True, slots=True)
class Result:
    """One stored content; `payload` is the record as it is published."""

    trigger_id: str
    content_id: str
    user_id: str
    source: str
    payload: bytes
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of an answered trigger."""

    trigger_id: str
    place: tuple[str, int, int]
    """Topic, partition and offset of the trigger."""
    source: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class ItemFacts:
    title: str
    description: str
    language: str
    categories: list[str]
    attributes: dict[str, Any]
    deleted: bool


@dataclass(frozen=True, slots=True)
class Liked:
    """An item that a user liked, near another one."""

    item_id: str
    title: str
    cosine: float
    """To the other one, above 0."""


class ContentStore:
    """Thread-safe: every call takes its own connection, and is one transaction; psycopg.OperationalError: repeat it."""

    def __init__(self, connections: ConnectionPool[psycopg.Connection[object]]) -> None:
        self._connections = connections

    def answered(self, trigger_ids: Sequence[str]) -> dict[str, Stored]:
        """Those of the triggers that have a result."""
        if not trigger_ids:
            return {}
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("contents_answered"), {"trigger_ids": list(trigger_ids)}).fetchall()
        return {r[0]: Stored(r[0], (r[1], r[2], r[3]), r[4], bytes(r[5])) for r in rows}

    def stored_from(self, topic: str, partition: int, offset: int) -> dict[int, Stored]:
        """Results of triggers at or beyond an offset of a partition, by offset."""
        parameters = {"topic": topic, "partition": partition, "log_offset": offset}
        for attempt in database.retrying():
            with attempt, database.transaction(self._connections) as cursor:
                rows = cursor.execute(sql("contents_from"), parameters).fetchall()
        return {r[0]: Stored(r[1], (topic, partition, r[0]), r[2], bytes(r[3])) for r in rows}

    def insert(self, results: Sequence[Result]) -> dict[str, Stored]:
        """Store results, each trigger once.

        Returns:
            Of triggers that had a result before, that one: it stays.
        """
        if not results:
            return {}
        parameters = {
            "trigger_ids": [r.trigger_id for r in results],
            "content_ids": [r.content_id for r in results],
            "user_ids": [r.user_id for r in results],
            "sources": [r.source for r in results],
            "payloads": [r.payload for r in results],
            "topics": [r.topic for r in results],
            "partitions": [r.partition for r in results],
            "log_offsets": [r.offset for r in results],
        }
        with database.transaction(self._connections) as cursor:
            inserted = {trigger_id for (trigger_id,) in cursor.execute(sql("contents_insert"), parameters)}
        return self.answered([r.trigger_id for r in results if r.trigger_id not in inserted])

    def facts(self, item_ids: Sequence[str]) -> dict[str, ItemFacts]:
        """What is stored of these items, deleted ones included."""
        if not item_ids:
            return {}
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("item_facts"), {"item_ids": list(item_ids)}).fetchall()
        return {r[0]: ItemFacts(r[1], r[2], r[3], r[4], r[5], r[6]) for r in rows}

    def media(self, item_ids: Sequence[str]) -> dict[str, list[Media]]:
        """Media of those of the items that are not deleted."""
        if not item_ids:
            return {}
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("item_media"), {"item_ids": list(item_ids)}).fetchall()
        return {item_id: msgspec.convert(media, list[Media]) for item_id, media in rows}

    def media_in_use(self, since: datetime) -> set[str]:
        """URIs of the media of items that are there or were deleted since a moment, and of contents made since."""
        with database.transaction(self._connections) as cursor:
            return {uri for (uri,) in cursor.execute(sql("media_in_use"), {"since": since})}

    def taste_media(self, user_id: str, item_id: str, most: int) -> list[list[Media]]:
        """Media of the items with a picture that are nearest to the user's profile, nearest first, without one item."""
        parameters = {"user_id": user_id, "item_id": item_id, "most": most}
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("taste_media"), parameters).fetchall()
        return [msgspec.convert(media, list[Media]) for _, media in rows]

    def profiles(self, user_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Profile vectors, [d] float32 of any length; users without a profile are left out."""
        if not user_ids:
            return {}
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("profile_vectors"), {"user_ids": list(user_ids)}).fetchall()
        return {user_id: arrays.vector(sent) for user_id, sent in rows}

    def newest_slates(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        """Items of the users' newest slates, best first; users without a profile are left out."""
        if not user_ids:
            return {}
        with database.transaction(self._connections) as cursor:
            return dict(cursor.execute(sql("newest_slates"), {"user_ids": list(user_ids)}).fetchall())

    def nearest_liked(self, user_id: str, item_id: str) -> Liked | None:
        """The item nearest to this one, by cosine, that the user liked; None where there is none near it."""
        with database.transaction(self._connections) as cursor:
            row = cursor.execute(sql("packed_events"), {"user_id": user_id}).fetchone()
            weights = largest_weights(bytes(row[0])) if row else {}
            if not any(weight > 0 for weight in weights.values()):
                return None
            near = cursor.execute(sql("nearest_items"), {"item_id": item_id, "most": MOST_NEAR}).fetchall()
        found = (Liked(*one) for one in near if weights.get(key64(one[0]), 0.0) > 0 and one[2] > 0)
        return next(found, None)
