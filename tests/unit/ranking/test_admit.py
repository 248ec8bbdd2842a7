"""Items that rules leave as candidates: none else is ranked, whatever comes and goes meanwhile."""

from __future__ import annotations

import numpy as np

from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import Ranker


def put(catalogue: Catalogue, *items: str) -> None:
    for item in items:
        catalogue.put(item, np.ones(2, np.float32), item, [], 1.0)


def candidates(ranker: Ranker) -> set[str]:
    ranker.fit()
    return {ranker.catalogue.ids[row] for row in np.flatnonzero(ranker.shared.live)}


def test_only_open_items_are_candidates_and_new_ones_wait_to_be_admitted() -> None:
    catalogue = Catalogue()
    ranker = Ranker(catalogue, content=1.0)
    put(catalogue, "a", "b", "c")
    assert ranker.admit(np.array([True, False, True])) == [1]
    assert candidates(ranker) == {"a", "c"}
    put(catalogue, "d", "b")
    assert candidates(ranker) == {"a", "c"}
    assert ranker.admit(np.array([True, True, False, True])) == [2]
    assert candidates(ranker) == {"a", "b", "d"}
    catalogue.remove("a")
    assert candidates(ranker) == {"b", "d"}
    assert ranker.admit(None) == []
    assert candidates(ranker) == {"b", "c", "d"}


def test_what_is_open_outlasts_a_snapshot_and_growth() -> None:
    catalogue = Catalogue()
    ranker = Ranker(catalogue, content=1.0)
    put(catalogue, "a", "b")
    ranker.admit(np.array([True, False]))
    ranker.restore(ranker.state(), np.arange(2))
    put(catalogue, *(f"more {n}" for n in range(3000)))
    assert candidates(ranker) == {"a"}
