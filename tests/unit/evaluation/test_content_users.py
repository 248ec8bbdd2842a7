"""Whose text is whose, and groups that differ: planted structure is found, and where there is none, none is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from upwell.evaluation.content_users import (
    activity,
    centred,
    closer,
    compare,
    majority,
    own_and_others,
    right_of_ten,
    told_truly,
)
from upwell.ranking.profile import unit

USERS = [f"u{n}" for n in range(40)]


def world(noise: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A text of each user: the profile and noise."""
    rng = np.random.default_rng(3)
    profiles = {user: rng.normal(size=32).astype(np.float32) * 7 for user in USERS}
    own = unit(np.stack([profiles[user] for user in USERS]))
    texts = unit(own * 1.0 + noise * rng.normal(size=own.shape).astype(np.float32) / np.sqrt(32))
    return texts.astype(np.float32), profiles


def test_own_texts_are_closer_and_found():
    texts, profiles = world(0.3)
    drawn, everywhere = closer(texts, USERS, profiles, 1)
    assert drawn.all()
    assert everywhere == 1
    assert right_of_ten(texts, USERS, profiles, 1).value == pytest.approx(1)
    own, others = np.array(own_and_others(texts, USERS, profiles)).T
    assert (own > others).all()


def test_texts_of_nobody_are_found_by_chance():
    texts, profiles = world(1e6)
    _, everywhere = closer(texts, USERS, profiles, 1)
    assert 0.35 < everywhere < 0.65
    found = right_of_ten(texts, USERS, profiles, 1)
    assert found.value is not None
    assert found.value < 0.25
    assert found.low is not None
    assert found.low < 0.1


def test_the_other_user_is_never_the_own_one():
    vectors = np.eye(2, dtype=np.float32)
    drawn, everywhere = closer(vectors, ["a", "b"], {"a": vectors[0], "b": vectors[1]}, 1)
    assert drawn.tolist() == [True, True]
    assert everywhere == 1


def test_what_all_share_can_be_taken_off():
    texts, profiles = world(0.3)
    common = np.full(32, 3.0, np.float32)
    shifted = unit(texts + common).astype(np.float32)
    bare, differences = centred(shifted, {user: unit(p[None])[0] + common for user, p in profiles.items()})
    assert closer(bare, USERS, differences, 1)[1] > 0.98
    assert np.abs(np.stack(list(differences.values())).mean(0)).max() < 1e-5


def test_ten_users_are_needed():
    texts, profiles = world(0.3)
    found = right_of_ten(texts[:9], USERS[:9], profiles, 1)
    assert found.value is None
    assert "9 users" in found.lacking


def test_groups():
    assert activity({}) == {}
    assert set(activity({"a": 1, "b": 5, "c": 90}).values()) == {
        "least active: up to 3 events",
        "middle: up to 33 events",
        "most active: more than 33 events",
    }
    assert len(set(activity(dict.fromkeys("abc", 4)).values())) == 1
    assert majority({"a": Counter(x=2, y=2, z=1), "b": Counter()}) == {"a": "x"}


def test_an_alarm_where_a_group_differs_and_only_there():
    groups = {"kind": {f"a{n}": "a" for n in range(60)} | {f"b{n}": "b" for n in range(60)}}
    trials = {f"a{n}": [n % 10 > 0] for n in range(60)} | {f"b{n}": [n % 10 > 4] for n in range(60)}
    same = {user: [True] for user in trials}
    found = compare({"differs": trials, "same": same}, groups)
    assert {(group.name, group.rate): group.alarm for group in found} == {
        ("a", "differs"): True, ("b", "differs"): True, ("a", "same"): False, ("b", "same"): False,
    }  # fmt: skip
    assert found[0].as_dict()["others"] == pytest.approx(0.5)


def test_small_groups_say_nothing():
    users = {f"a{n}": "large" for n in range(30)} | {f"b{n}": "small" for n in range(9)}
    found = compare({"rate": {user: [True] for user in users}}, {"kind": users})
    assert [group.name for group in found] == ["large"]
    assert found[0].others is None


def test_reasons_are_true_where_the_history_says_so():
    assert told_truly({1: 0.5, 2: -1.0}, [2, 1])
    assert not told_truly({1: 0.5, 2: -1.0}, [2, 3])


def test_one_exception_is_no_alarm():
    users = {f"a{n}": "a" for n in range(59)} | {f"b{n}": "b" for n in range(236)}
    found = compare({"rate": {user: [user != "a7"] for user in users}}, {"kind": users})
    assert not any(group.alarm for group in found)
