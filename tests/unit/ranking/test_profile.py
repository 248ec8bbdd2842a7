"""The profile sum: a function of its events, whatever their batches; order changes only the last bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upwell.ranking.profile import EMPTY_BASE, add, decay, recent_interest, unit

HALF_LIFE = 3_600_000.0
Events = list[tuple[int, float, int]]

events = st.lists(
    st.tuples(st.integers(0, 7), st.floats(-3, 3, width=16), st.integers(1, 200 * 3_600_000)), min_size=1, max_size=40
)
ITEMS = unit(np.random.default_rng(3).normal(size=(8, 12)).astype(np.float32))


def summed(log: Events) -> tuple[NDArray[np.float32], int]:
    vectors, bases = np.zeros((1, 12), np.float32), np.array([EMPTY_BASE], np.int64)
    for item, weight, time in log:
        base, factor = decay(time, HALF_LIFE)
        add(vectors, bases, 0, ITEMS[item], weight, base, factor)
    return vectors[0], int(bases[0])


@given(events)
def test_equals_the_formula_in_double_precision(log: Events) -> None:
    vector, base = summed(log)
    exact = sum(weight * 2.0 ** (time / HALF_LIFE - base) * ITEMS[item].astype(float) for item, weight, time in log)
    np.testing.assert_allclose(vector, exact, atol=1e-4)
    assert base == max(decay(time, HALF_LIFE)[0] for _, _, time in log)


@given(events, st.randoms(use_true_random=False))
def test_out_of_order_events_commute(log: Events, random: object) -> None:
    shuffled = list(log)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ours, base = summed(log)
    theirs, other = summed(shuffled)
    assert base == other
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@given(events, st.integers(0, 40))
def test_stopping_and_going_on_changes_no_bit(log: Events, cut: int) -> None:
    whole, base = summed(log)
    vectors, bases = np.zeros((1, 12), np.float32), np.array([EMPTY_BASE], np.int64)
    for part in (log[:cut], log[cut:]):
        restored = np.frombuffer(vectors.tobytes(), np.float32).reshape(1, 12).copy()  # through storage and back
        for item, weight, time in part:
            add(restored, bases, 0, ITEMS[item], weight, *decay(time, HALF_LIFE))
        vectors = restored
    assert vectors[0].tobytes() == whole.tobytes()
    assert int(bases[0]) == base


def test_ages_vanish_without_a_warning() -> None:
    vector, _ = summed([(0, 1.0, 1), (1, 1.0, 2_000 * 3_600_000)])
    np.testing.assert_allclose(vector / np.linalg.norm(vector), ITEMS[1], atol=1e-6)
    vector, _ = summed([(1, 1.0, 2_000 * 3_600_000), (0, 1.0, 1)])
    np.testing.assert_allclose(vector / np.linalg.norm(vector), ITEMS[1], atol=1e-6)


def test_unit_keeps_zero_rows() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], atol=1e-7)


def test_the_newest_liked_item_counts_most() -> None:
    vectors = np.eye(4, dtype=np.float32)
    interest = recent_interest(vectors, [np.array([0, 1, 2]), np.zeros(0, np.int64)], 2)
    assert interest[0][2] > interest[0][1] > interest[0][0] == 0
    assert not interest[1].any()
