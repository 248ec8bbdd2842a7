"""New items in; one trigger per user whom they concern out. Profiles are read from Postgres now and then, not per batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from upwell.events.contracts import ContentTrigger, Reason
from upwell.events.hashing import identifier
from upwell.ranking.audience import audience
from upwell.settings import ContentSettings
from upwell.store.items import ActiveUsers, ItemRow, active_users

log = structlog.get_logger("upwell.items")

MOST_USERS: Final = 20_000
FEWEST_SECONDS: Final = 5.0
READING_SHARE: Final = 0.05
"""Reading profiles takes at most this share of the time."""
AUDIENCES_PER_BATCH: Final = 5
"""A flood of new items makes this many audiences per batch: a user has no use for more news at once either."""


class Audience:
    """Who is told about new items."""

    def __init__(self, connections: ConnectionPool[psycopg.Connection[object]], settings: ContentSettings) -> None:
        self._connections = connections
        self._settings = settings
        self._users: ActiveUsers | None = None
        self._key: tuple[int, str] | None = None
        self._read_again = 0.0

    def triggers(self, new: Sequence[ItemRow], model_version: str) -> list[ContentTrigger]:
        """One trigger per user, about the closest of the new items; the same items give the same trigger ids again.

        Raises:
            psycopg.OperationalError: the profiles could not be read.
        """
        size = self._settings.audience
        if not new or not size:
            return []
        vectors = np.stack([row.embedding.vector for row in new])
        users = self._active(vectors.shape[1], model_version)
        item_rows, user_rows, cosines = audience(vectors, users.vectors, size, AUDIENCES_PER_BATCH * size)
        now = time.time_ns() // 1_000_000
        found = []
        for item_row, user_row, cosine in zip(item_rows.tolist(), user_rows.tolist(), cosines.tolist(), strict=True):
            item, user_id = new[item_row].item, users.user_ids[user_row]
            found.append(
                ContentTrigger(
                    trigger_id=identifier("new_item", item.item_id, user_id),
                    kind="new_item",
                    cause=item.item_id,
                    user_id=user_id,
                    item_id=item.item_id,
                    created=now,
                    priority="low",
                    reasons=[Reason("new", round(cosine, 4), "new, and close to your taste")],
                )
            )
        return found

    def _active(self, dimension: int, model_version: str) -> ActiveUsers:
        began = time.monotonic()
        key = (dimension, model_version)
        if self._users is None or key != self._key or began >= self._read_again:
            self._users = active_users(
                self._connections,
                active_days=self._settings.audience_active_days,
                min_events=self._settings.min_events,
                dimension=dimension,
                model_version=model_version,
                at_most=MOST_USERS,
            )
            self._key = key
            took = time.monotonic() - began
            self._read_again = began + max(FEWEST_SECONDS, took / READING_SHARE)
            log.debug("audience.read", users=len(self._users.user_ids), seconds=round(took, 3))
        return self._users
