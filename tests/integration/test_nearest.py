"""The item nearest to another one that a user liked: found by the index, on a real database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from deployment import Deployment, deployed
from support import eventually
from upwell.events.contracts import Item
from upwell.events.hashing import key64
from upwell.interactions.history import EVENT
from upwell.local.stack import Stack
from upwell.store import database
from upwell.store.arrays import VectorArray
from upwell.store.contents import ContentStore, Liked
from upwell.store.items import Embedding, ItemRow, ItemStore, Place
from upwell.store.models import ModelStore

pytestmark = pytest.mark.integration

ITEMS, DIMENSIONS = 3_000, 24
Vectors = NDArray[np.float32]


def unit(*shape: int) -> Vectors:
    drawn = np.random.default_rng(5).normal(size=shape)
    return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)


def rows(vectors: Vectors, name: str = "i") -> list[ItemRow]:
    return [
        ItemRow(Item(f"{name}{n}", title=f"Film {n}"), Place(0, n), Embedding(vector, {"text": 1.0}, {}), {}, 1.0)
        for n, vector in enumerate(vectors)
    ]


def likes(own: Deployment, user: str, items: Sequence[str]) -> None:
    events = np.zeros(len(items), EVENT)
    events["item"], events["weight"] = [key64(item) for item in items], 1.0
    own.execute(
        "INSERT INTO profiles (user_id, partition, state_version, model_version, generation, version, revision,"
        " event_time, base, half_life_ms, vector, events, slates, slate_items)"
        " SELECT %s, 0, 1, 'm', 0, 1, 0, 1, 0, 1, v, %s, '', '{}' FROM unnest(%s::vector[]) AS v",
        user, events.tobytes(), VectorArray(np.ones((1, 3), np.float32)),
    )  # fmt: skip


def test_the_nearest_liked_item_is_found_by_the_index(stack: Stack, prefix: str) -> None:
    with deployed(stack, prefix) as own, database.pool(own.settings.postgres) as connections:
        vectors = unit(ITEMS, DIMENSIONS)
        # Nearest to the first: a deleted one, one without title, one of another model, and only then those that count.
        vectors[1:6] = vectors[0] + 1e-3 * np.arange(1, 6)[:, None] * unit(5, DIMENSIONS)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items = ItemStore(connections, "topic")
        items.write(rows(vectors), {}, "m")
        items.write([], {"i1": Place(0, ITEMS)}, "m")
        items.write(rows(unit(4, 2_500), "long"), {}, "m")
        own.execute("UPDATE items SET title = '' WHERE item_id = 'i2'")
        own.execute("UPDATE items SET model_version = 'other' WHERE item_id = 'i3'")
        own.execute("ANALYZE items")
        store = ContentStore(connections)
        likes(own, "u", [f"i{n}" for n in range(6)])
        likes(own, "far", [f"i{np.argmin(vectors @ vectors[0])}", "long1", "long2", "long3"])

        assert store.nearest_liked("u", "i0") == Liked("i4", "Film 4", pytest.approx(vectors[0] @ vectors[4]))
        assert store.nearest_liked("far", "i0") is None
        used = "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = %s AND schemaname = %s"
        eventually(
            lambda: own.rows(used, f"items_nearest_{DIMENSIONS}", own.settings.postgres.db_schema) == [(True,)],
            message="the index is used",
        )
        # Longer than what can be indexed.
        found = store.nearest_liked("far", "long0")
        assert found is None or found.item_id.startswith("long")


def test_vectors_of_the_next_model_are_indexed_before_items_have_them(stack: Stack, prefix: str) -> None:
    with deployed(stack, prefix) as own, database.pool(own.settings.postgres) as connections:
        ItemStore(connections, "topic").write(rows(unit(2, 8)), {}, "m")
        models = ModelStore(connections)
        assert models.begin(("m", "m"), ("n", "n"))
        models.prepare("n", {"i0": Embedding(unit(16), {"text": 1.0}, {})}, {})
        models.prepare("n", {"i1": Embedding(unit(16), {"text": 1.0}, {})}, {})
        made = own.rows("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'items_nearest%%' AND schemaname = %s"
                        " ORDER BY 1", own.settings.postgres.db_schema)  # fmt: skip
        assert made == [("items_nearest_16",), ("items_nearest_8",)]
