"""Facts about items, (item, predicate, object), in; similarity by shared facts, scores and rules' item sets out. Pure.

An item is a vector over the facts that at least two items share, each weighing log(items / items with it) (Spärck Jones
1972), of length 1: a rare director says more than a common language. Similarity is the cosine, as for the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.compiled import compiled
from upwell.ranking.groups import Groups

Triple = tuple[int, str, str]
"""Catalogue row, predicate, object."""


class Knowledge:
    """Facts of all items by catalogue row. Built anew when facts change: 90,000 triples take a fraction of a second."""

    def __init__(self, triples: Iterable[Triple], items: int, weights: Mapping[str, float] | None = None) -> None:
        """Args:
        triples: any order; what is said twice counts once.
        items: catalogue rows.
        weights: of predicates, 1 where none is given; 0 keeps one for rules alone.

        Raises:
            IndexError: a row is not below `items`.
        """
        by_predicate: dict[str, list[tuple[int, str]]] = {}
        for row, predicate, name in triples:
            if not 0 <= row < items:
                raise IndexError(f"fact {predicate} = {name} of row {row}: there are {items} items")
            by_predicate.setdefault(predicate, []).append((row, name))
        self.predicates: dict[str, Groups] = {}
        """Groups of items by object, for each predicate: what rules select and cap by."""
        names: list[tuple[str, str]] = []
        all_rows, all_facts, all_weights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
        for predicate in sorted(by_predicate):
            said = by_predicate[predicate]
            objects = sorted({name for _, name in said})
            number = {name: index for index, name in enumerate(objects)}
            rows = np.array([row for row, _ in said], np.int64)
            groups = Groups.of_pairs(objects, items, rows, np.array([number[name] for _, name in said], np.int64))
            self.predicates[predicate] = groups
            of_items, of_objects = groups.pairs()
            all_rows.append(of_items)
            all_facts.append(of_objects + len(names))
            all_weights.append(np.full(len(objects), (weights or {}).get(predicate, 1.0)))
            names += [(predicate, name) for name in objects]
        self.facts = Groups.of_pairs([""] * len(names), items, np.concatenate(all_rows), np.concatenate(all_facts))
        self.names = names
        """Predicate and object of each fact."""
        known = int((np.diff(self.facts.starts) > 0).sum())
        with_it = np.bincount(self.facts.members, minlength=len(names))
        weight = np.concatenate(all_weights) * np.log(max(known, 1) / np.maximum(with_it, 1)) * (with_it > 1)
        values = weight[self.facts.members]
        rows, _ = self.facts.pairs()
        length = np.sqrt(np.bincount(rows, values**2, minlength=items))
        self.values: NDArray[np.float32] = (values / np.where(length > 0, length, 1)[rows]).astype(np.float32)
        """[memberships] float32 beside `facts.members`; each item's squares sum to 1, or to 0 where it shares nothing."""

    def affinity(
        self, rows: NDArray[np.int64], history: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """A scorer: the weighted sum of each candidate's similarities with the items of a history.

        Args:
            rows: [n] int64, the candidates.
            history: [h] int64 catalogue rows; `weights`, [h] float32, what each counts (negative for what was disliked).

        Returns:
            [n] float32.
        """
        return _affinity(self.facts.starts, self.facts.members, self.values, len(self.names), rows, history, weights)

    def similarity(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
        """[l, r] float32 cosines in [0, 1] between items."""
        one = np.ones(1, np.float32)
        return (
            np.stack([self.affinity(right, left[i : i + 1], one) for i in range(len(left))])
            if len(left)
            else (np.zeros((0, len(right)), np.float32))
        )

    def shared(self, left: int, right: int, most: int = 2) -> list[tuple[str, str]]:
        """What two items have in common, what says most first: (predicate, object), evidence for a reason."""
        a, b = slice(*self.facts.starts[left : left + 2]), slice(*self.facts.starts[right : right + 2])
        common, of_left, of_right = np.intersect1d(
            self.facts.members[a], self.facts.members[b], assume_unique=True, return_indices=True
        )
        said = self.values[a][of_left] * self.values[b][of_right]
        order = np.argsort(-said, kind="stable")[:most]
        return [self.names[common[at]] for at in order if said[at] > 0]


@compiled
def _affinity(
    starts: NDArray[np.int32],
    members: NDArray[np.int32],
    values: NDArray[np.float32],
    facts: int,
    rows: NDArray[np.int64],
    history: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    wanted = np.zeros(facts, np.float32)
    for h in range(len(history)):
        for at in range(starts[history[h]], starts[history[h] + 1]):
            wanted[members[at]] += weights[h] * values[at]
    found = np.zeros(len(rows), np.float32)
    for i in range(len(rows)):
        for at in range(starts[rows[i]], starts[rows[i] + 1]):
            found[i] += values[at] * wanted[members[at]]
    return found
