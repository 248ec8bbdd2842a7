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
