"""Rows of items: what was only named is bounded, what was put never."""

from __future__ import annotations

import numpy as np

from upwell.ranking.catalogue import Catalogue

VECTOR = np.ones(1, np.float32)


def test_items_that_nothing_is_known_of_get_rows_up_to_a_bound_and_again_when_features_come():
    catalogue = Catalogue(most_named=2)
    assert [catalogue.find(item) for item in ("a", "b", "c", "a")] == [0, 1, -1, 0]
    catalogue.put("c", VECTOR, "C", [], 1.0)
    assert [catalogue.find(item) for item in ("c", "d")] == [2, -1]
    catalogue.put("a", VECTOR, "A", [], 1.0)
    assert catalogue.named == 1
    assert catalogue.find("d") == 3
    # Another model's vectors, or a deletion, make nothing unknown.
    catalogue.remove("c")
    catalogue.forget_vectors()
    catalogue.put("a", VECTOR, "A", [], 1.0)
    assert catalogue.named == 2
    assert len(catalogue) == 4
