"""Items as arrays: vectors, liveness, titles, categories, by row. A row, once given to an item, stays its own."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


class Catalogue:
    """All items that were ever named. `known` rows have a vector; `live` ones are candidates as well."""

    def __init__(self, capacity: int = 1024, most_named: int | None = None) -> None:
        """
        Args:
            capacity: rows that there is room for at first.
            most_named: items that were named and never put which `find` gives rows; None for any number.
        """
        self.most_named = most_named
        self.named = 0
        """Items that were named and never put: a row costs kilobytes, and anybody may name anything."""
        self._put: set[int] = set()
        self.rows: dict[str, int] = {}
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.categories: list[list[str]] = []
        self.facts: dict[int, list[tuple[str, str]]] = {}
        """(predicate, object), of the rows that have any."""
        self.vectors: NDArray[np.float32] = np.zeros((capacity, 0), np.float32)
        """[capacity, d] float32, unit length; zero where unknown."""
        self.known: NDArray[np.bool_] = np.zeros(capacity, bool)
        self.live: NDArray[np.bool_] = np.zeros(capacity, bool)
        self.quality: NDArray[np.float32] = np.zeros(capacity, np.float32)
        self.since: NDArray[np.int64] = np.zeros(capacity, np.int64)
        """When features first came, ms; 0 where that is not known."""
        self.ties: NDArray[np.uint64] = np.zeros(capacity, np.uint64)
        """Hashes of the ids: an order among equals that all workers share."""
        self.changed: set[int] = set()
        """Rows that became candidates, or changed as such, or are none any more; whoever follows them empties it."""
        self.edition = 0
        """Grows with every item that is put: what is made of categories is made of this edition."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def find(self, item_id: str) -> int:
        """The item's row, a new one where it has none yet; -1 where there are too many `named` ones for that."""
        if item_id not in self.rows and self.most_named is not None and self.named >= self.most_named:
            return -1
        return self.row(item_id)

    def row(self, item_id: str) -> int:
        """The item's row, a new one where it has none yet."""
        row = self.rows.get(item_id)
        if row is None:
            row = len(self.ids)
            if row == len(self.known):
                self._grow()
            self.rows[item_id] = row
            self.named += 1
            self.ties[row] = int.from_bytes(blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())
            self.ids.append(item_id)
            self.titles.append("")
            self.categories.append([])
        return row

    def put(
        self,
        item_id: str,
        vector: NDArray[np.float32],
        title: str,
        categories: list[str],
        quality: float,
        since: int = 0,
        facts: Sequence[tuple[str, str]] = (),
    ) -> tuple[int, bool]:
        """Insert or update an item.

        Args:
            vector: [d] float32, unit length.
            since: ms, when this was told; the first time stays.
            facts: (predicate, object).

        Returns:
            Its row, and whether its vector was not known before.

        Raises:
            ValueError: the vector's dimension is not the catalogue's.
        """
        if self.dimension == 0:
            self.vectors = np.zeros((len(self.known), len(vector)), np.float32)
        if len(vector) != self.dimension:
            raise ValueError(f"item {item_id}: vector of {len(vector)} dimensions among {self.dimension}")
        row = self.row(item_id)
        new = not self.known[row]
        if row not in self._put:
            self._put.add(row)
            self.named -= 1
        self.vectors[row] = vector
        self.known[row] = self.live[row] = True
        self.quality[row] = quality
        self.since[row] = self.since[row] or since
        self.titles[row] = title
        self.categories[row] = categories
        if facts:
            self.facts[row] = list(facts)
        else:
            self.facts.pop(row, None)
        self.changed.add(row)
        self.edition += 1
        return row, bool(new)

    def forget_vectors(self) -> None:
        """Begin anew with another model's vectors: rows and titles stay, nothing is known or a candidate any more."""
        self.vectors = np.zeros((len(self.known), 0), np.float32)
        self.changed.update(np.flatnonzero(self.live).tolist())
        self.known[:] = False
        self.live[:] = False

    def remove(self, item_id: str) -> int | None:
        """No candidate any more; the vector stays for profiles. Returns the row, None where it was none before."""
        row = self.rows.get(item_id)
        if row is None or not self.live[row]:
            return None
        self.live[row] = False
        self.changed.add(row)
        return row

    def _grow(self) -> None:
        more = len(self.known)
        self.vectors = np.concatenate([self.vectors, np.zeros((more, self.dimension), np.float32)])
        self.known = np.concatenate([self.known, np.zeros(more, bool)])
        self.live = np.concatenate([self.live, np.zeros(more, bool)])
        self.ties = np.concatenate([self.ties, np.zeros(more, np.uint64)])
        self.quality = np.concatenate([self.quality, np.zeros(more, np.float32)])
        self.since = np.concatenate([self.since, np.zeros(more, np.int64)])
