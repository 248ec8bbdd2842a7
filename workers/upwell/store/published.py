"""What evaluation and training ask of the store, about users and items. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool

from upwell.store import arrays, database
from upwell.store.database import sql


@dataclass(frozen=True, slots=True)
class User:
    """One user's stored state."""

    user_id: str
    version: int
    """Distinct events applied."""
    model_version: str
    vector: NDArray[np.float32]
    """[d], of any length."""
    events: bytes
    """Packed last events (`upwell.store.history.EVENT`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of the catalogue."""

    item_id: str
    title: str
    categories: list[str]
    attributes: dict[str, Any]


class PublishedStore:
    """Every call is one database transaction; psycopg.OperationalError: repeat it."""

    def __init__(self, connections: ConnectionPool[psycopg.Connection[object]]) -> None:
        self._connections = connections

    def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        """Those of the users that have a profile, by id."""
        rows = self._rows("profiles_of", user_ids=list(user_ids))
        return {r[0]: User(r[0], r[1], r[2], arrays.vector(r[3]), bytes(r[4])) for r in rows}

    def catalogue(self, at_most: int) -> list[Entry]:
        """Items that are not deleted, by id."""
        return [Entry(*row) for row in self._rows("catalogue_facts", at_most=at_most)]

    def vectors(self, item_ids: Sequence[str]) -> dict[str, tuple[str, NDArray[np.float32]]]:
        """Model version and [d] float32 vector of those of the items that have one."""
        return {r[0]: (r[1], arrays.vector(r[2])) for r in self._rows("vectors_of", item_ids=list(item_ids))}

    def catalogue_vectors(self) -> dict[str, tuple[str, NDArray[np.float32]]]:
        """Model version and [d] float32 vector of every item that is not deleted, by id, in the ids' order."""
        return {r[0]: (r[1], arrays.vector(r[2])) for r in self._rows("item_vectors")}

    def parts(self, model_version: str, modality: str) -> dict[str, NDArray[np.float32]]:
        """[d] float32 vector before fusion of every item of the version that has the modality, by id."""
        rows = self._rows("item_parts", model_version=model_version, modality=modality)
        return {item_id: arrays.vector(sent) for item_id, sent in rows}

    def _rows(self, statement: str, **parameters: object) -> list[Any]:
        with database.transaction(self._connections) as cursor:
            return cursor.execute(sql(statement), parameters).fetchall()
