"""The slate: against the plain greedy of each paper's formula; caps, ties, and what a user must be able to rely on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upwell.ranking.groups import Groups
from upwell.ranking.profile import unit
from upwell.ranking.slate import SMOOTHING, Caps, Shape, fits, slate

ITEMS, WIDTH = 200, 16


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(8, WIDTH))
    return unit((centres[rng.integers(0, 8, ITEMS)] + 0.5 * rng.normal(size=(ITEMS, WIDTH))).astype(np.float32))


@pytest.fixture(scope="module")
def ties() -> NDArray[np.uint64]:
    return np.random.default_rng(4).permutation(ITEMS).astype(np.uint64)


@pytest.fixture(scope="module")
def categories() -> Groups:
    rng = np.random.default_rng(5)
    return Groups.of([[f"c{c}" for c in rng.choice(6, rng.integers(0, 4), replace=False)] for _ in range(ITEMS)])


def candidates(seed: int, count: int = 40) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return rng.choice(ITEMS, count, replace=False).astype(np.int64), rng.normal(size=count).astype(np.float32)


def plain(
    scores: NDArray[np.float32], places: int, value: Callable[[int, list[int], NDArray[np.float64]], float]
) -> list[int]:
    """The greedy that looks at every candidate for every place."""
    relevance = ((scores - scores.min()) / (scores.max() - scores.min())).astype(np.float64)
    chosen: list[int] = []
    for _ in range(places):
        rest = [i for i in range(len(scores)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: value(i, chosen, relevance)))
    return chosen


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.9])
def test_mmr_is_the_greedy_of_its_formula(seed: int, diversity: float, vectors: Any, ties: Any) -> None:
    rows, scores = candidates(seed)
    cosines = vectors[rows].astype(np.float64) @ vectors[rows].T

    def value(i: int, chosen: list[int], relevance: NDArray[np.float64]) -> float:
        nearest = max((0.0, *(cosines[i, j] for j in chosen)))
        return (1 - diversity) * float(relevance[i]) - diversity * float(nearest)

    found = slate(rows, scores, vectors, ties, Shape(10, "mmr", diversity))
    assert found.tolist() == rows[plain(scores, 10, value)].tolist()


@pytest.mark.parametrize("seed", range(8))
def test_dpp_adds_what_raises_the_determinant_most(seed: int, vectors: Any, ties: Any) -> None:
    rows, scores = candidates(seed)
    cosines = vectors[rows].astype(np.float64) @ vectors[rows].T

    def value(i: int, chosen: list[int], relevance: NDArray[np.float64]) -> float:
        with_it, without = np.ix_([*chosen, i], [*chosen, i]), np.ix_(chosen, chosen)
        gain = np.linalg.slogdet(cosines[with_it])[1] - (np.linalg.slogdet(cosines[without])[1] if chosen else 0.0)
        return 0.7 * float(relevance[i]) + 0.3 * float(gain)

    found = slate(rows, scores, vectors, ties, Shape(10, "dpp", 0.3))
    assert found.tolist() == rows[plain(scores, 10, value)].tolist()


@pytest.mark.parametrize("seed", range(8))
def test_calibration_is_the_greedy_of_the_divergence(seed: int, vectors: Any, ties: Any, categories: Groups) -> None:
    rows, scores = candidates(seed)
    wanted = np.random.default_rng(seed + 100).dirichlet(np.ones(len(categories.names)))
    inside = categories.matrix(rows).astype(np.float64)
    inside /= np.maximum(inside.sum(axis=1, keepdims=True), 1)

    def value(i: int, chosen: list[int], relevance: NDArray[np.float64]) -> float:
        held = inside[[*chosen, i]].sum(axis=0) / (len(chosen) + 1)
        mixed = (1 - SMOOTHING) * held + SMOOTHING * wanted
        return 0.4 * float(relevance[i]) - 0.6 * float((wanted * np.log(wanted / mixed)).sum())

    found = slate(rows, scores, vectors, ties, Shape(10, calibration=0.6), categories=categories, wanted=wanted)
    assert found.tolist() == rows[plain(scores, 10, value)].tolist()


def test_a_calibrated_slate_has_the_users_shares(vectors: Any, ties: Any) -> None:
    categories = Groups.of([["drama"] if item % 2 else ["comedy"] for item in range(ITEMS)])
    rows = np.arange(100)
    scores = np.where(rows % 2 == 1, 1.0, 0.2).astype(np.float32) + rows.astype(np.float32) / 1000
    wanted = np.array([0.3, 0.7])  # comedy, drama
    plain_slate = slate(rows, scores, vectors, ties, Shape(10))
    assert (plain_slate % 2 == 1).all()
    found = slate(rows, scores, vectors, ties, Shape(10, calibration=0.99), categories=categories, wanted=wanted)
    assert (found % 2 == 0).sum() == 3


def test_more_diversity_lies_further_apart(vectors: Any, ties: Any) -> None:
    def alike(found: NDArray[np.int64]) -> float:
        table = vectors[found] @ vectors[found].T
        return float(table[np.triu_indices(len(found), 1)].mean())

    for method in ("mmr", "dpp"):
        mean = []
        for diversity in (0.0, 0.3, 0.6):
            shape = Shape(10, method, diversity)  # type: ignore[arg-type]
            mean.append(np.mean([alike(slate(*candidates(seed, 80), vectors, ties, shape)) for seed in range(20)]))
        assert mean[0] > max(mean[1:])


def test_equal_candidates_come_in_the_order_of_their_hashes_however_they_are_given(vectors: Any, ties: Any) -> None:
    rows = np.arange(50)
    scores = np.zeros(50, np.float32)
    same = np.tile(vectors[:1], (ITEMS, 1))
    expected = rows[np.argsort(ties[rows])][:10].tolist()
    for order in range(5):
        given = np.random.default_rng(order).permutation(rows)
        for shape in (Shape(10), Shape(10, "mmr", 0.5), Shape(10, "dpp", 0.5)):
            assert slate(given, scores, same, ties, shape).tolist() == expected


def test_caps_hold_and_a_slate_that_they_end_is_short(vectors: Any, ties: Any, categories: Groups) -> None:
    most = np.array([1, 2, 0, 3, 1, 2], np.int32)
    caps = Caps(categories, most)
    for seed in range(20):
        rows, scores = candidates(seed)
        kept = (~categories.matrix(rows)[:, 2]).nonzero()[0]  # a cap of 0 is a block, and the caller's to mask
        found = slate(rows[kept], scores[kept], vectors, ties, Shape(10, "mmr", 0.3), caps=caps)
        assert (categories.matrix(found).sum(axis=0) <= most).all()
    one = Groups.of([["all"]] * ITEMS)
    assert len(slate(*candidates(1), vectors, ties, Shape(10), caps=Caps(one, np.array([4], np.int32)))) == 4
    assert caps.most.tolist() == [1, 2, 0, 3, 1, 2]


def test_what_fits_beside_a_slate_breaks_no_cap(categories: Groups) -> None:
    most = np.array([1, 2, 1, 3, 1, 2], np.int32)
    held, others = np.arange(3), np.arange(3, ITEMS)
    fit = fits(Caps(categories, most), held, others)
    assert 0 < fit.sum() < len(others)
    for other, fitting in zip(others.tolist(), fit.tolist(), strict=True):
        together = categories.matrix(np.append(held, other)).sum(axis=0)
        over = (together > most) & categories.matrix(np.array([other]))[0]
        assert fitting == (not over.any())


def test_candidates_without_a_finite_score_are_none(vectors: Any, ties: Any) -> None:
    rows, scores = candidates(1, 6)
    scores[2], scores[4] = -math.inf, math.nan
    found = slate(rows, scores, vectors, ties, Shape(10, "dpp", 0.4))
    assert set(found.tolist()) == set(rows[[0, 1, 3, 5]].tolist())
    assert slate(rows[:0], scores[:0], vectors, ties, Shape(10)).tolist() == []


def test_what_is_raised_comes_first(vectors: Any, ties: Any) -> None:
    rows, scores = candidates(2)
    raised = np.zeros(40, np.float32)
    raised[scores.argmin()] = 1.01
    assert slate(rows, scores, vectors, ties, Shape(3), raised=raised)[0] == rows[scores.argmin()]


def test_as_many_alike_as_there_are_fill_the_places(vectors: Any, ties: Any) -> None:
    """Beyond the span's dimensions nothing is new to a determinant; relevance goes on."""
    rows, scores = candidates(3)
    found = slate(rows, scores, np.ascontiguousarray(vectors[:, :3]), ties, Shape(10, "dpp", 0.5))
    assert len(set(found.tolist())) == 10
