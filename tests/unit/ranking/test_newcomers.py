"""New items: neighbours, inherited scores, and impressions that are counted exactly."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.newcomers import FirstImpressions, inherited, neighbours, part, placed
from upwell.ranking.profile import unit

TIES = np.random.default_rng(9).integers(0, 2**63, 100).astype(np.uint64)


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_neighbours_are_the_nearest_known_items() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(size=(50, 8)).astype(np.float32))
    known = np.arange(50) < 40
    new = rows(40, 45, 3)
    found, cosines = neighbours(vectors, new, known, 5)
    for row, near, cosine in zip(new, found, cosines, strict=True):
        own = {other: float(vectors[row] @ vectors[other]) for other in range(40) if other != row}
        assert near.tolist() == sorted(own, key=lambda other: -own[other])[:5]
        np.testing.assert_allclose(cosine, [own[other] for other in near], atol=1e-6)
    none, _ = neighbours(vectors, new, np.zeros(50, bool), 5)
    assert none.shape == (3, 0)


def test_the_more_alike_the_more_is_inherited() -> None:
    scores = np.array([1.0, 0.0, 1.0], np.float32)
    near = np.array([[0, 1], [0, 2], [0, 1], [0, 1]])
    cosines = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, -0.9], [0, 0]], np.float32)
    assert inherited(near, cosines, scores) == pytest.approx([0.5 / 1.5, 1 / 1.5, 0.1 / 0.6, 0])
    assert inherited(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.float32), scores).tolist() == [0, 0]


@pytest.mark.parametrize(("quota", "partitions"), [(100, 4), (10, 3), (2, 7), (0, 2), (5, 1)])
def test_the_parts_of_all_partitions_are_the_quota(quota: int, partitions: int) -> None:
    parts = np.stack([part(quota, p, partitions, TIES) for p in range(partitions)])
    assert (parts.sum(axis=0) == quota).all()
    assert np.ptp(parts) <= 1


def test_every_new_item_gets_its_impressions_and_not_one_more() -> None:
    """Users come by at random; rankings that are not published grant nothing."""
    rng = np.random.default_rng(2)
    new, quota, partitions = np.arange(80, 100), 7, 3
    owners = [FirstImpressions() for _ in range(partitions)]
    for number, owner in enumerate(owners):
        owner.promise(new, part(quota, number, partitions, TIES[new]))
        owner.promise(new, part(quota, number, partitions, TIES[new]))
    shown = np.zeros(100, int)
    for _ in range(400):
        owner = owners[rng.integers(partitions)]
        slate = rng.choice(80, 10, replace=False)
        first = owner.choose(np.concatenate([slate, new]), rng.random(30).astype(np.float32), TIES, 2)
        found = placed(slate, first, 10)
        assert len(set(found.tolist())) == 10
        assert found[:8].tolist() == slate[:8].tolist()
        if rng.random() < 0.2:
            continue
        owner.grant(found)
        shown[found] += 1
    assert (shown[new] == quota).all()
    assert not any(owner.owed for owner in owners)
    owners[0].promise(new, np.full(20, 9))
    assert not owners[0].owed


def test_the_owed_items_that_fit_best_are_chosen_and_deleted_ones_are_not() -> None:
    owner = FirstImpressions()
    owner.promise(rows(1, 2, 3, 4), rows(5, 5, 5, 5))
    owner.withdraw(rows(3))
    scores = np.array([9, 0.1, 0.5, 0.9, 0.5], np.float32)
    assert owner.choose(rows(0, 1, 2, 3, 4), scores, np.arange(5, 0, -1).astype(np.uint64), 2).tolist() == [4, 2]


def test_owed_items_take_the_last_places_but_never_the_first() -> None:
    slate = np.arange(10)
    assert placed(slate, rows(50, 51), 10).tolist() == [*range(8), 50, 51]
    assert placed(slate, rows(9, 50), 10).tolist() == [*range(8), 9, 50]
    assert placed(slate[:3], rows(50, 51), 10).tolist() == [0, 1, 2, 50, 51]
    assert placed(slate[:1], rows(50), 1).tolist() == [0]
    assert placed(rows(), rows(50, 51, 52), 2).tolist() == [50, 51]
    assert placed(slate, rows(), 10).tolist() == slate.tolist()
