"""Formats are chosen by what was liked: by all where a user is new, by the user where there is enough to know."""

from __future__ import annotations

from collections import Counter

import numpy as np

from upwell.ranking.arms import Arms, Reactions, react

NAMES = ["text", "poster", "clip"]
DAY_MS = 86_400_000


def share(arms: Arms, own: Reactions, name: str, times: int = 400) -> float:
    return Counter(arms.choose(NAMES, own, np.random.default_rng(seed)) for seed in range(times))[name] / times


def test_without_feedback_all_formats_are_tried_alike() -> None:
    shares = [share(Arms(30 * DAY_MS), {}, name) for name in NAMES]
    assert all(0.25 < one < 0.42 for one in shares)


def test_what_others_like_is_what_a_new_user_gets_and_what_one_likes_what_one_gets() -> None:
    arms = Arms(30 * DAY_MS)
    for name, liked in (("text", 5), ("poster", 60), ("clip", 8)):
        arms.learn(name, DAY_MS, 100, liked)
    assert share(arms, {}, "poster") > 0.85
    assert share(arms, {"poster": [60, 1], "clip": [60, 55]}, "clip") > 0.85


def test_the_choice_is_a_function_of_its_seed() -> None:
    arms = Arms(30 * DAY_MS)
    chosen = [arms.choose(NAMES, {}, np.random.default_rng(seed)) for seed in range(50)]
    assert chosen == [arms.choose(NAMES, {}, np.random.default_rng(seed)) for seed in range(50)]


def test_old_feedback_fades_and_late_feedback_counts_as_what_it_was() -> None:
    arms = Arms(DAY_MS)
    arms.learn("clip", 100 * DAY_MS, 64, 32)
    arms.learn("text", 102 * DAY_MS, 8, 4)
    arms.learn("clip", 101 * DAY_MS, 2, 2)
    assert arms.base == 102
    np.testing.assert_allclose(arms.sums["clip"], [16 + 1, 8 + 1])
    np.testing.assert_allclose(arms.sums["text"], [8, 4])


def test_reactions_count_showings_likings_and_rejections() -> None:
    own: Reactions = {}
    assert react(own, "clip", 0.0, impression=True) == (1, 0)
    assert react(own, "clip", 2.0, impression=False) == (0, 1)
    assert react(own, "text", -1.0, impression=False) == (1, 0)
    assert react(own, "text", 0.0, impression=False) == (0, 0)
    assert own == {"clip": [1, 1], "text": [1, 0]}
