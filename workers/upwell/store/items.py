"""Items by id, guarded by their place in the log: an older record of the same partition never overwrites a newer one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool

from upwell.events.contracts import Item
from upwell.store import arrays, database
from upwell.store.database import sql


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the log an item's latest record stands."""

    partition: int
    offset: int


class Embedding(NamedTuple):
    """What was made of an item under one model version, and stays."""

    vector: NDArray[np.float32]
    """[d], unit length."""
    modalities: dict[str, float]
    """Share of each modality in the vector."""
    perceived: dict[str, Any]
    """What was heard and seen in its media."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One embedded item."""

    item: Item
    place: Place
    embedding: Embedding
    parts: dict[str, NDArray[np.float32]]
    """Vectors of the modalities before fusion; none where they are stored already."""
    quality: float


class ItemStore:
    """Items of one topic. Every call is one database transaction; psycopg.OperationalError: repeat it."""

    def __init__(self, connections: ConnectionPool[psycopg.Connection[object]], topic_id: str) -> None:
        self._connections = connections
        self._topic_id = topic_id
        self._indexed: set[int] = set()

    def known(self, item_ids: Sequence[str], model_version: str) -> dict[str, Embedding]:
        """What is stored of this model version, by item id."""
        with database.transaction(self._connections) as cursor:
            rows = cursor.execute(
                sql("items_known"), {"item_ids": list(item_ids), "model_version": model_version}
            ).fetchall()
        return {item_id: Embedding(arrays.vector(sent), weights, seen) for item_id, sent, weights, seen in rows}

    def write(
        self, rows: Sequence[ItemRow], deleted: dict[str, Place], model_version: str
    ) -> tuple[dict[str, bool], set[str]]:
        """Store embedded and deleted items; an item occurs once.

        Returns:
            Accepted items, with whether this record first gave them a vector; and accepted deletions. Items left out
            have a newer record of their partition already.
        """
        accepted: dict[str, bool] = {}
        gone: set[str] = set()
        if rows and (dimensions := len(rows[0].embedding.vector)) not in self._indexed:
            index_vectors(self._connections, dimensions)
            self._indexed.add(dimensions)
        with database.transaction(self._connections) as cursor:
            if rows:
                accepted = dict(cursor.execute(sql("items_upsert"), self._columns(rows, model_version)).fetchall())
                made = {row.item.item_id: row.parts for row in rows if row.item.item_id in accepted}
                insert_parts(cursor, model_version, made)
            if deleted:
                parameters = {
                    "topic_id": self._topic_id,
                    "item_ids": list(deleted),
                    "partitions": [place.partition for place in deleted.values()],
                    "log_offsets": [place.offset for place in deleted.values()],
                }
                gone = {item_id for (item_id,) in cursor.execute(sql("items_delete"), parameters)}
        return accepted, gone

    def _columns(self, rows: Sequence[ItemRow], model_version: str) -> dict[str, object]:
        return {
            "topic_id": self._topic_id,
            "model_version": model_version,
            "item_ids": [r.item.item_id for r in rows],
            "partitions": [r.place.partition for r in rows],
            "log_offsets": [r.place.offset for r in rows],
            "titles": [r.item.title for r in rows],
            "descriptions": [r.item.description for r in rows],
            "languages": [r.item.language for r in rows],
            "categories": [_json(r.item.categories) for r in rows],
            "attributes": [_json(r.item.attributes) for r in rows],
            # Bytes lie in the media store, or, where there is none, in the log alone.
            "media": [_json([msgspec.structs.replace(m, data=None) for m in r.item.media]) for r in rows],
            "vectors": arrays.VectorArray(np.stack([r.embedding.vector for r in rows])),
            "modalities": [_json(r.embedding.modalities) for r in rows],
            "perceived": [_json(r.embedding.perceived) for r in rows],
            "qualities": [r.quality for r in rows],
            "times": [r.item.ts for r in rows],
        }


def index_vectors(connections: ConnectionPool[psycopg.Connection[Any]], dimensions: int) -> None:
    """See to it that items with vectors of this length can be looked for by nearness. Writers of items wait meanwhile."""
    with database.transaction(connections) as cursor:
        cursor.execute(sql("index_vectors"), {"dimensions": dimensions})


def insert_parts(
    cursor: psycopg.Cursor[Any], model_version: str, parts: Mapping[str, Mapping[str, NDArray[np.float32]]]
) -> None:
    """Store the modalities' vectors of items, by item id; those that are stored already stand."""
    for modality in sorted({name for vectors in parts.values() for name in vectors}):
        made = {item_id: vectors[modality] for item_id, vectors in parts.items() if modality in vectors}
        parameters = {
            "modality": modality, "model_version": model_version, "item_ids": list(made),
            "vectors": arrays.VectorArray(np.stack(list(made.values()))),
        }  # fmt: skip
        cursor.execute(sql("modalities_insert"), parameters)


@dataclass(frozen=True, slots=True)
class ActiveUsers:
    """`vectors` is [n, d] float32: profile sums, of any length."""

    user_ids: list[str]
    vectors: NDArray[np.float32]


def active_users(
    connections: ConnectionPool[psycopg.Connection[object]],
    *,
    active_days: float,
    min_events: int,
    dimension: int,
    model_version: str,
    at_most: int,
) -> ActiveUsers:
    """Users with an event within `active_days` before the newest event of all, latest first."""
    parameters = {
        "window_ms": int(active_days * 86_400_000), "min_events": min_events, "dimension": dimension,
        "model_version": model_version, "at_most": at_most,
    }  # fmt: skip
    with database.transaction(connections) as cursor:
        rows = cursor.execute(sql("active_profiles"), parameters).fetchall()
    vectors = [arrays.vector(sent) for _, sent in rows]
    return ActiveUsers(
        [user for user, _ in rows], np.stack(vectors) if vectors else np.zeros((0, dimension), np.float32)
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
