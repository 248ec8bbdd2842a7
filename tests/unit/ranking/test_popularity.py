"""Decayed popularity: a function of the events, however they come."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.popularity import Popularity


def test_popularity_halves_and_is_independent_of_batches() -> None:
    day = 86_400_000
    whole, parts = Popularity(7 * day), Popularity(7 * day)
    whole.learn([0, 1, 1, 2], [0, 0, 14 * day, 14 * day], [4.0, 1.0, 1.0, -3.0])
    parts.learn([0, 1], [0, 0], [4.0, 1.0])
    parts.learn([1, 2], [14 * day, 14 * day], [1.0, -3.0])
    np.testing.assert_allclose(whole.scores(4), parts.scores(4))
    assert whole.sums[0] == pytest.approx(1.0)
    assert whole.sums[1] == pytest.approx(1.25)
    assert whole.scores(4).tolist() == pytest.approx([np.log1p(1.0) / np.log1p(1.25), 1, 0, 0])


def test_popularity_survives_its_snapshot() -> None:
    first = Popularity(1000.0)
    first.learn([0, 3], [5000, 9000], [1.0, 2.0])
    base, ids, sums = first.state(["a", "b", "c", "d"])
    second = Popularity(1000.0)
    second.restore(base, [{"a": 2, "d": 0}[name] for name in ids], sums)
    assert second.scores(3)[0] == first.scores(4)[3]
    assert second.scores(3)[2] == first.scores(4)[0]
