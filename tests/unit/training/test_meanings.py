"""From vectors to meanings: what a regression has not seen, it maps no better than it should, and texts alone look like it."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.training.meanings import Channel, ridge, unseen


@pytest.fixture(scope="module")
def pairs():
    """Vectors that hold half of the axes of their meanings, and noise."""
    rng = np.random.default_rng(5)
    meanings = rng.normal(size=(400, 12)).astype(np.float32)
    vectors = meanings @ np.diag([1.0] * 6 + [0.0] * 6).astype(np.float32) + 0.3 * rng.normal(size=(400, 12))
    return vectors.astype(np.float32), meanings


def test_a_regression_finds_what_vectors_hold(pairs):
    vectors, meanings = pairs
    guessed = ridge(vectors, meanings, 0.01)(vectors)
    alike = [np.corrcoef(guessed[:, i], meanings[:, i])[0, 1] for i in range(12)]
    assert min(alike[:6]) > 0.9
    assert max(alike[6:]) < 0.4


def test_what_was_not_met_is_guessed_worse_than_what_was(pairs):
    vectors, meanings = pairs
    few, meant = vectors[:40], meanings[:40]
    met = np.square(ridge(few, meant, 0.01)(few) - meant).mean()
    not_met = np.square(unseen(few, meant, 0.01) - meant).mean()
    assert not_met > 1.2 * met


def test_the_same_meaning_is_met_in_no_other_row(pairs):
    vectors, meanings = pairs
    # Each meaning twice: a regression that met the second row would map the first one to it.
    doubled = unseen(np.concatenate([vectors[:40]] * 2), np.concatenate([meanings[:40]] * 2), 0.01)
    assert np.square(doubled[:40] - meanings[:40]).mean() > 0.3


def test_texts_alone_arrive_as_those_with_pictures_do(pairs):
    vectors, meanings = pairs
    arrived = unseen(vectors[:300], meanings[:300], 0.01)
    channel = Channel.of(meanings[:300], arrived, 0.01)
    others = meanings[300:].repeat(30, 0)
    sent = channel.send(others, 1.0, np.random.default_rng(0))
    expected = ridge(vectors[:300], meanings[:300], 0.01)(vectors[300:])
    np.testing.assert_allclose(sent.std(0), expected.std(0), rtol=0.3, atol=0.05)
    # Without noise, what comes is a function of the meaning.
    silent = channel.send(others[:2], 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(silent[0], silent[1])
