"""The outside check itself is checked: whatever is lost or doubled must be counted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upwell.evaluation.verify import Numbering, Observed, judge


def numbered(*rankings: tuple[int, int, int, int], user: str = "u") -> Numbering:
    """(generation, version, revision, events) each."""
    found = Numbering()
    for ranking in rankings:
        found.add(user, *ranking)
    return found


def test_right_numbering() -> None:
    found = numbered((0, 2, 0, 2), (0, 3, 0, 1), (0, 3, 1, 0), (0, 3, 2, 0), (0, 7, 0, 4), (1, 1, 0, 1))

    assert (found.lost, found.duplicated, found.rankings) == (0, 0, 6)
    assert found.versions() == {"u": 1}
    assert not found.problems


def test_a_gap_is_lost() -> None:
    found = numbered((0, 2, 0, 2), (0, 5, 0, 1))

    assert (found.lost, found.duplicated) == (2, 0)
    assert found.problems == ["user u: version 5 with 1 events follows version 2"]
    assert numbered((0, 3, 0, 1)).lost == 2
    assert numbered((0, 3, 0, 3), (0, 4, 1, 0)).lost == 1


def test_a_repeat_is_duplicated() -> None:
    found = numbered((0, 2, 0, 2), (0, 2, 0, 2))

    assert (found.lost, found.duplicated) == (0, 2)


def test_a_decrease_is_duplicated() -> None:
    assert numbered((0, 5, 0, 5), (0, 4, 0, 1)).duplicated == 1
    assert numbered((1, 5, 0, 5), (0, 6, 0, 1)).duplicated == 1
    assert numbered((0, 5, 1, 5), (0, 5, 0, 0)).duplicated >= 1


def test_an_overlap_is_duplicated() -> None:
    assert numbered((0, 5, 0, 5), (0, 6, 0, 3)).duplicated == 2


def test_a_reissue_that_claims_events_is_duplicated() -> None:
    assert numbered((0, 5, 0, 5), (0, 5, 1, 1)).duplicated == 1


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.data())
def test_any_single_fault_in_a_right_sequence_is_found(steps: list[int], data: st.DataObject) -> None:
    versions = np.cumsum(steps).tolist()
    right = [(0, version, 0, step) for version, step in zip(versions, steps, strict=True)]
    assert (numbered(*right).lost, numbered(*right).duplicated) == (0, 0)

    where = data.draw(st.integers(0, len(right) - 1))
    dropped = numbered(*right[:where], *right[where + 1 :])
    ends_short = judge({"u": versions[-1]}, dropped, {"u": versions[-1]})
    assert (ends_short.lost, ends_short.duplicated) == (steps[where], 0)

    repeated = numbered(*right[: where + 1], *right[where:])
    assert (repeated.lost, repeated.duplicated) == (0, steps[where])


def observe(events: list[tuple[str, str, int]], rankings: list[tuple[str, int, int]]) -> Observed:
    """(user, event id, append time) and (user, version, receipt time)."""
    observed = Observed()
    for place, (user, event_id, appended) in enumerate(events):
        observed.event(user, event_id, "click", appended, 0, place)
    for ranking in rankings:
        observed.ranking(*ranking)
    return observed


def test_distinct_events_count_and_dead_letters_do_not() -> None:
    observed = observe([("a", "1", 0), ("a", "1", 1), ("b", "1", 2), ("a", "2", 3), ("a", "3", 4)], [])
    observed.event("a", "request", "rank_request", 5, 0, 5)

    assert observed.counted() == ({"a": 3, "b": 1}, 1)
    assert observed.counted(dead=[(0, 4)]) == ({"a": 2, "b": 1}, 1)
    # The valid one of two records with one id counts, whichever it is.
    assert observed.counted(dead=[(0, 0)]) == ({"a": 3, "b": 1}, 0)


def test_latency_is_up_to_the_first_ranking_that_holds_the_event() -> None:
    observed = observe(
        [("a", "1", 100), ("b", "1", 105), ("a", "2", 110), ("a", "2", 111), ("a", "3", 120), ("a", "4", 130)],
        [("a", 2, 150), ("b", 1, 104), ("a", 3, 170), ("a", 3, 400)],
    )

    assert sorted(observed.latencies().tolist()) == [-1, 0, 40, 50, 50]
    assert observed.recent_latencies().min() >= 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=60),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6)), max_size=20),
)
def test_latencies_agree_with_a_plain_search(made: list[tuple[str, int]], steps: list[tuple[str, int]]) -> None:
    events = [(user, str(name), 10 * place) for place, (user, name) in enumerate(made)]
    reached = dict.fromkeys("abc", 0)
    rankings = []
    for place, (user, step) in enumerate(steps):
        reached[user] += step
        rankings.append((user, reached[user], 300 + place))

    wanted = []
    for user in "abc":
        firsts: dict[str, int] = {}
        for who, name, at in events:
            if who == user:
                firsts.setdefault(name, at)
        for nth, at in enumerate(firsts.values(), 1):
            answers = [received for who, version, received in rankings if who == user and version >= nth]
            wanted.append(max(0, answers[0] - at) if answers else -1)

    assert sorted(observe(events, rankings).latencies().tolist()) == sorted(wanted)


def test_the_verdict_takes_the_worst_of_all_views() -> None:
    numbering = numbered((0, 3, 0, 3))
    assert judge({"u": 3}, numbering, {"u": 3}) == judge({"u": 3}, numbering, {"u": 3, "other": 0})
    assert (judge({"u": 3}, numbering, {"u": 2}).lost, judge({"u": 3}, numbering, {"u": 4}).duplicated) == (1, 1)
    assert judge({"u": 3, "v": 2}, numbering, {"u": 3}).lost == 2
    assert judge({}, numbering, {"u": 3}).duplicated == 3
    assert judge({"u": 2}, numbering, {"u": 3}).details == ["user u: 2 events in, version 3 published, 3 stored"]
