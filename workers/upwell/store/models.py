"""Which model made the stored vectors, which one is to follow it, and how far that has come.

A version is prepared beside the live one, item by item; when all are, its records are published and the items go over to
it, and with the last of them it is live. Every step is one database transaction, so any worker may do the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool

from upwell.events.contracts import Item, Media
from upwell.store import arrays, database
from upwell.store.database import sql
from upwell.store.items import Embedding, index_vectors, insert_parts


class State(StrEnum):
    """How far a model version has come."""

    PREPARING = "preparing"
    """Items are embedded under it, in the background; nobody uses them yet."""
    SWITCHING = "switching"
    """All items have been; they are published under it now, new ones at once."""
    LIVE = "live"
    """Rankings use it."""
    RETIRED = "retired"
    """Another one is live; what is still stored of it is rebuilt when it is met."""


@dataclass(frozen=True, slots=True)
class Version:
    """One model version."""

    model_version: str
    served_as: str
    """Its name on Triton."""
    state: State
    features_offsets: dict[int, int]
    """Partition of `item-features` to offset: below, all items are published under it."""


class Progress(NamedTuple):
    """A version, how many items it lacks, and how many there are."""

    version: Version
    lacking: int
    items: int


class Prepared(NamedTuple):
    """A stored item under the version that is to follow."""

    item_id: str
    title: str
    categories: list[str]
    attributes: dict[str, Any]
    quality: float
    ts: int
    deleted: bool
    vector: NDArray[np.float32]
    modalities: dict[str, float]


class ModelStore:
    """Thread-safe: every call takes its own connection. psycopg.OperationalError: repeat it."""

    def __init__(self, connections: ConnectionPool[psycopg.Connection[Any]]) -> None:
        self._connections = connections

    def versions(self) -> list[Version]:
        """All of them, oldest first; none where there never was a second one."""
        with database.transaction(self._connections) as cursor:
            return [_version(*row) for row in cursor.execute(sql("models_states")).fetchall()]

    def live_as(self) -> str:
        """Name on Triton of the live version; empty where there never was a second one, and the settings say it."""
        return next((one.served_as for one in self.versions() if one.state is State.LIVE), "")

    def progress(self) -> list[Progress]:
        """All versions with what they lack."""
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("models_all")).fetchall()
        return [Progress(_version(*row[:4]), row[4], row[5]) for row in rows]

    def of_items(self) -> list[str]:
        """Versions of the stored vectors: one, but for the time of a switch."""
        with database.transaction(self._connections) as cursor:
            return [version for (version,) in cursor.execute(sql("models_versions_of_items")).fetchall()]

    def begin(self, live: tuple[str, str], following: tuple[str, str]) -> bool:
        """Begin to prepare a version.

        Args:
            live, following: version and name on Triton; the former is noted where nothing has been noted yet.

        Returns:
            False where another one is being prepared, or it is live already.
        """
        parameters = {"live": live[0], "live_as": live[1], "next": following[0], "next_as": following[1]}
        try:
            return self._change("models_begin", parameters) == 1
        except psycopg.errors.UniqueViolation:
            return False

    def drop(self, model_version: str) -> bool:
        """Give a preparation up, and what has been prepared; False where it is none."""
        with database.transaction(self._connections) as cursor:
            dropped = cursor.execute(sql("models_drop"), {"model_version": model_version}).rowcount == 1
            if dropped:
                cursor.execute(sql("modalities_clear"))
            return dropped

    def switch(self, model_version: str) -> bool:
        """Let the workers go over to a version; False where it still lacks items."""
        return self._change("models_switch", {"model_version": model_version}) == 1

    def unprepared(
        self, topic_id: str, partitions: Sequence[int], model_version: str, at_most: int, but: Sequence[str] = ()
    ) -> list[Item]:
        """Items that a version lacks, as they were cleaned; `but` those of these ids."""
        parameters = {
            "topic_id": topic_id, "partitions": list(partitions), "model_version": model_version, "at_most": at_most,
            "but": list(but),
        }  # fmt: skip
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("items_unprepared"), parameters).fetchall()
        return [
            Item(id_, "upsert", title, description, language, list(categories), attributes,
                 [piece for piece in msgspec.convert(media, list[Media]) if piece.uri])
            for id_, title, description, language, categories, attributes, media in rows
        ]  # fmt: skip

    def prepare(
        self, model_version: str, made: Mapping[str, Embedding], parts: Mapping[str, Mapping[str, NDArray[np.float32]]]
    ) -> None:
        """Store items' embeddings under a version, and their vectors before fusion; the first ones of an item stand."""
        if not made:
            return
        # Made before an item goes over: what is indexed later would keep the others from being written.
        index_vectors(self._connections, len(next(iter(made.values())).vector))
        parameters = {
            "model_version": model_version,
            "item_ids": list(made),
            "vectors": arrays.VectorArray(np.stack([one.vector for one in made.values()])),
            "modalities": [msgspec.json.encode(one.modalities).decode() for one in made.values()],
            "perceived": [msgspec.json.encode(one.perceived).decode() for one in made.values()],
        }
        with database.transaction(self._connections) as cursor:
            cursor.execute(sql("items_prepare"), parameters)
            insert_parts(cursor, model_version, parts)

    def prepared(self, item_ids: Sequence[str], model_version: str) -> dict[str, Embedding]:
        """What is prepared of these items."""
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(
                sql("items_prepared"), {"item_ids": list(item_ids), "model_version": model_version}
            ).fetchall()
        return {item_id: Embedding(arrays.vector(sent), weights, seen) for item_id, sent, weights, seen in rows}

    def unpublished(self, topic_id: str, partitions: Sequence[int], model_version: str, at_most: int) -> list[Prepared]:
        """Prepared items that are not under the version yet."""
        parameters = {
            "topic_id": topic_id, "partitions": list(partitions), "model_version": model_version, "at_most": at_most,
        }  # fmt: skip
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(sql("items_unpublished"), parameters).fetchall()
        return [
            Prepared(
                item_id, title, list(categories), attributes, quality, ts, deleted, arrays.vector(sent), modalities
            )
            for item_id, title, categories, attributes, quality, ts, deleted, sent, modalities in rows
        ]

    def published(self, model_version: str, item_ids: Sequence[str], offsets: Mapping[int, int]) -> None:
        """Items have been published under a version: they are under it from now on.

        Args:
            offsets: partition of `item-features` to its end since.
        """
        ends = msgspec.json.encode({str(number): offset for number, offset in offsets.items()}).decode()
        with database.transaction(self._connections) as cursor:
            cursor.execute(sql("items_switch"), {"model_version": model_version, "item_ids": list(item_ids)})
            cursor.execute(sql("models_offsets"), {"model_version": model_version, "offsets": ends})

    def finish(self, model_version: str) -> bool:
        """Make a version live where no item is left under another; False where there is one."""
        with database.transaction(self._connections) as cursor:
            cursor.execute(sql("models_retire"), {"model_version": model_version})
            done = cursor.execute(sql("models_live"), {"model_version": model_version}).rowcount == 1
            if done:
                cursor.execute(sql("models_clear"), {"model_version": model_version})
                cursor.execute(sql("modalities_clear"))
            return done

    def _change(self, statement: str, parameters: dict[str, Any]) -> int:
        with database.transaction(self._connections) as cursor:
            return cursor.execute(sql(statement), parameters).rowcount


def _version(model_version: str, served_as: str, state: str, offsets: dict[str, int]) -> Version:
    return Version(model_version, served_as, State(state), {int(number): offset for number, offset in offsets.items()})
