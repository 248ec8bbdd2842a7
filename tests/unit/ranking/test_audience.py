"""The audience of new items: the closest users, each once, never one whose taste points away."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upwell.ranking.audience import audience


def test_each_user_gets_the_closest_new_item_once() -> None:
    items = np.array([[1, 0], [0.8, 0.6]], np.float32)
    profiles = np.array([[5, 0], [0, 2], [-1, 0], [0, 0]], np.float32)
    item, user, cosine = audience(items, profiles, per_item=3, at_most=10)
    assert list(zip(item.tolist(), user.tolist(), strict=True)) == [(0, 0), (1, 1)]
    np.testing.assert_allclose(cosine, [1.0, 0.6], rtol=1e-6)


def test_nobody_and_nothing() -> None:
    empty = np.zeros((0, 2), np.float32)
    one = np.ones((1, 2), np.float32)
    for items, profiles, per_item, at_most in [
        (empty, one, 1, 1),
        (one, empty, 1, 1),
        (one, one, 0, 1),
        (one, one, 1, 0),
    ]:
        assert len(audience(items, profiles, per_item, at_most)[0]) == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 12), st.integers(1, 5), st.integers(1, 8))
def test_it_is_the_top_of_the_plain_count(seed: int, n: int, m: int, per_item: int, at_most: int) -> None:
    draw = np.random.default_rng(seed)
    items = draw.standard_normal((n, 4)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    profiles = draw.standard_normal((m, 4)).astype(np.float32)
    item, user, cosine = audience(items, profiles, per_item, at_most)
    expected: dict[int, float] = {}
    for vector in items:
        scores = sorted(((float(vector @ p / np.linalg.norm(p)), u) for u, p in enumerate(profiles)), reverse=True)
        for score, u in scores[:per_item]:
            if score > 0:
                expected[u] = max(expected.get(u, 0.0), score)
    best = sorted(expected.values(), reverse=True)[:at_most]
    np.testing.assert_allclose(cosine, best, rtol=1e-4, atol=1e-6)
    assert len(set(user.tolist())) == len(user)
    assert len(item) == len(user) == len(best)
