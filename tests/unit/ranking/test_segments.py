"""The prior of a user without a history: the segment's shares, shrunk to those of all."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.segments import Segments

DAY = 86_400_000


def learned(strength: float = 10.0, most: int = 1000) -> Segments:
    """Students take item 0 three times in four, others item 1."""
    found = Segments(7 * DAY, strength, most)
    for day in range(20):
        rows = [0, 0, 0, 1, 1, 1, 1, 1]
        segments = [["job=student"]] * 4 + [["job=writer", "country=de"]] * 4
        found.learn(rows, [day * DAY] * 8, [1.0] * 8, segments)
    return found


def test_each_segment_has_its_own_prior_between_its_shares_and_those_of_all() -> None:
    segments = learned()
    student, writer = (segments.prior([name], 19 * DAY, 3) for name in ("job=student", "job=writer"))
    unknown = segments.prior(["job=king"], 19 * DAY, 3)
    assert unknown == pytest.approx([3 / 8, 5 / 8, 0])
    assert 3 / 8 < student[0] < 3 / 4
    assert writer[0] < 3 / 8
    for prior in (student, writer, segments.prior(["job=student", "job=writer"], 19 * DAY, 3)):
        assert prior.sum() == pytest.approx(1)


def test_the_formula() -> None:
    segments = Segments(1 * DAY, 10.0)
    segments.learn([0, 1, 1, 1], [0, 0, DAY, DAY], [1.0, 1.0, 2.0, -1.0], [["s"], [], ["s"], []])
    # As of day 1: of all (0.5, 1.5), of s (0.5, 2).
    of_all = np.array([0.25, 0.75])
    expected = (np.array([0.5, 2.0]) + 10 * of_all) / 12.5
    np.testing.assert_allclose(segments.prior(["s"], DAY, 2), expected, rtol=1e-6)


def test_a_segment_that_falls_silent_goes_back_to_all() -> None:
    segments = learned()
    for day in range(20, 200):
        segments.learn([2], [day * DAY], [1.0], [["job=writer"]])
    np.testing.assert_allclose(
        segments.prior(["job=student"], 200 * DAY, 3), segments.prior([], 200 * DAY, 3), atol=1e-4
    )


def test_segments_are_bounded_and_their_events_still_count_for_all() -> None:
    segments = Segments(DAY, most=2)
    segments.learn([0, 1, 2], [0] * 3, [1.0] * 3, [["a"], ["b"], ["c"]])
    assert set(segments.by_segment) == {"a", "b"}
    assert segments.prior(["c"], 0, 3) == pytest.approx([1 / 3] * 3)


def test_nothing_known_is_nothing_said() -> None:
    assert segments_sum(Segments(DAY)) == 0


def segments_sum(segments: Segments) -> float:
    return float(segments.prior(["a"], 0, 4).sum())
