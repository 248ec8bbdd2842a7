"""What a segment likes, against what all like: shrunk, halving with time, bounded, and the same wherever it is learned."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking.segments import EVERYBODY, Segments

DAY = 86_400_000
NOW = 20_000 * DAY
"""A multiple of the half-lives below."""


def like(segments: Segments, time: int, *likings: tuple[int, str]) -> None:
    """(item row, segment) each; counted for everybody as well, as workers count it."""
    segments.learn(time, [(name, row, 1) for row, own in likings for name in (EVERYBODY, own)])


def students_and_writers() -> Segments:
    """Students take item 0 three times in four, writers item 1."""
    found = Segments(10 * DAY, 10.0)
    for _ in range(20):
        like(found, NOW, *[(0, "job=student")] * 3, (1, "job=student"), *[(1, "job=writer")] * 3, (2, "job=writer"))
    return found


def test_the_formula_is_the_order_of_the_posterior() -> None:
    segments = students_and_writers()
    rows, lift = segments.lift(["job=student"])
    assert rows.tolist() == [0, 1]
    share = np.array([60, 80, 20]) / 160
    np.testing.assert_allclose(lift, np.log1p(np.array([60, 20]) / (10 * share[:2])), rtol=1e-6)
    # Up to a constant it is the logarithm of the shrunk chance over the share.
    chance = (np.array([60, 20, 0]) + 10 * share) / (80 + 10)
    over = np.log(chance / share)
    np.testing.assert_allclose(np.append(lift, 0) - over, (np.append(lift, 0) - over)[0], rtol=1e-6)


def test_several_segments_count_by_their_mean_and_unknown_ones_say_nothing() -> None:
    segments = students_and_writers()
    rows, both = segments.lift(["job=student", "job=writer"])
    one, other = (
        dict(zip(*(each.tolist() for each in segments.lift([name])), strict=True))
        for name in ("job=student", "job=writer")
    )
    assert rows.tolist() == [0, 1, 2]
    expected = [(one.get(row, 0) + other.get(row, 0)) / 2 for row in rows.tolist()]
    np.testing.assert_allclose(both, expected, rtol=1e-6)
    for nobody in ([], ["job=king"]):
        rows, lift = segments.lift(nobody)
        assert (len(rows), len(lift)) == (0, 0)


def test_an_item_is_popular_with_the_segment_where_it_is_likelier_than_elsewhere() -> None:
    segments = students_and_writers()
    assert segments.likelier(["job=student", "job=writer"], 0) == "job=student"
    assert segments.likelier(["job=student", "job=writer"], 1) == "job=writer"
    assert segments.likelier(["job=student"], 1) == ""  # they have it, seldomer than others
    assert segments.likelier(["job=king"], 0) == ""
    assert segments.likelier([], 0) == ""


def test_what_is_old_counts_half_and_then_less() -> None:
    segments = Segments(10 * DAY, 10.0)
    like(segments, NOW, *[(0, "a=1")] * 8)
    like(segments, NOW + 10 * DAY, (1, "a=1"))
    assert segments.counts["a=1"] == {0: 4.0, 1: 1.0}
    like(segments, NOW + 5 * DAY, (1, "a=1"))  # late, and of the half-life before: counts as much as now
    like(segments, NOW + 30 * DAY, (2, "a=1"))
    assert segments.counts["a=1"] == {0: 1.0, 1: 0.5, 2: 1.0}
    assert segments.totals["a=1"] == 2.5
    assert segments.total == segments.all.sum() == 2.5


def test_values_by_the_thousand_leave_frequent_segments_and_items_alone() -> None:
    segments = Segments(10 * DAY, 10.0, segments=20, items=10)
    for n in range(5_000):
        like(segments, NOW, (n, f"free={n}"), (n % 3, "country=de"), (100 + n, "country=de"))
    assert len(segments.counts) == len(segments.totals) <= 40
    assert max(map(len, segments.counts.values())) <= 20
    held = segments.counts["country=de"]
    assert [held[row] for row in range(3)] == [1667, 1667, 1666]
    assert segments.totals["country=de"] == 10_000
    assert segments.likelier(["country=de"], 0) == "country=de"
    assert segments.total == 15_000


def test_a_state_is_taken_over_whatever_the_rows_are() -> None:
    segments = students_and_writers()
    base, everybody, counts = segments.state()
    other = Segments(10 * DAY, 10.0)
    other.restore(base, everybody[:3], counts, np.array([7, 2_000, 5]))
    for name in ("job=student", "job=writer"):
        rows, lift = segments.lift([name])
        theirs, same = other.lift([name])
        assert dict(zip(np.array([7, 2_000, 5])[rows], lift, strict=True)) == dict(zip(theirs, same, strict=True))
    like(segments, NOW + 10 * DAY, (0, "job=student"))
    like(other, NOW + 10 * DAY, (7, "job=student"))
    assert other.totals == segments.totals
    assert other.total == pytest.approx(segments.total)
    assert other.counts["job=student"][7] == segments.counts["job=student"][0]
