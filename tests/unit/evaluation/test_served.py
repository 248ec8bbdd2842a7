"""Rankings and what came of them: joins by hand, figures of arrays whose answer is known, alarms that must and must not come."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from upwell.evaluation import served_joins, served_variants
from upwell.evaluation.recorded import Recorded
from upwell.evaluation.served import Plan, evaluate, gain, periods
from upwell.evaluation.served_drift import TARGETS, moves
from upwell.evaluation.served_log import Feature, Published, Served, _Item, _Reason, arrays, brief
from upwell.events.contracts import Interaction
from upwell.ranking.variants import Experiment
from upwell.settings import Events

ITEMS = [f"i{n}" for n in range(20)]


def ranking(user: str, published: int, items: list[str], **more: object) -> Published:
    shown = [
        _Item(item, 1.0 - n / 10, [_Reason("similar", 0.3), _Reason("popular", 0.1)]) for n, item in enumerate(items)
    ]
    return Published(f"{user}-{published}", user, shown, "events", published - 5, published, **more)  # type: ignore[arg-type]


def event(user: str, logged: int, item: str, kind: str = "click", **more: object) -> tuple[int, Interaction]:
    return logged, Interaction(f"{user}-{logged}-{item}", user, kind, logged, item, **more)  # type: ignore[arg-type]


def served(
    happened: list[tuple[int, Interaction]],
    published: list[Published],
    group_by: tuple[str, ...] = (),
    earlier: int = 0,
) -> Served:
    happened = sorted(happened, key=lambda pair: pair[0])
    found = Recorded("interactions", [one for _, one in happened], [logged for logged, _ in happened])
    features = [Feature(item, [f"c{n % 2}"]) for n, item in enumerate(ITEMS)]
    names: dict[str, str] = {}
    shown = [brief(one, names) for one in sorted(published, key=lambda one: one.publish_time)]
    return arrays(found, shown, features, Events(), group_by, earlier)


def test_the_latest_record_strictly_before() -> None:
    owner, time = np.array([1, 0, 1, 1, 2]), np.array([10, 11, 20, 20, 5])
    asked, at = np.array([1, 1, 1, 1, 0, 3, 2]), np.array([10, 11, 20, 21, 100, 100, 6])
    count, latest = served_joins.before(owner, time, asked, at)
    assert count.tolist() == [0, 1, 1, 3, 1, 0, 1]
    assert latest.tolist() == [-1, 0, 0, 3, 1, -1, 4]
    nothing = np.zeros(0, np.int64)
    assert served_joins.before(nothing, nothing, asked, at)[1].tolist() == [-1] * 7


def test_the_same_as_looking_at_every_record() -> None:
    rng = np.random.default_rng(4)
    owner, time = rng.integers(0, 9, 300), rng.integers(0, 60, 300)
    asked, at = rng.integers(0, 11, 200), rng.integers(-3, 70, 200)
    count, latest = served_joins.before(owner, time, asked, at)
    for n in range(len(asked)):
        earlier = np.flatnonzero((owner == asked[n]) & (time < at[n]))
        assert count[n] == len(earlier)
        best = max(earlier, key=lambda one: (time[one], one), default=-1)
        assert latest[n] == best


def test_an_event_is_judged_by_the_ranking_before_it_or_by_the_one_it_names() -> None:
    found = evaluate(
        served(
            [
                event("a", 5, "i9"),  # no ranking yet
                event("a", 20, "i1"),  # place 1 of the ranking at 10; that of 20 came too late
                event("a", 40, "i3", ranking_id="a-10"),  # place 2 of the first one, which it names
                event("a", 50, "i1"),  # had already
                event("a", 60, "i5", kind="impression"),  # no liking
                event("a", 70, "i5", ranking_id="b-10"),  # another user's: judged by the latest of its own, on whose slate it is first
                event("b", 80, "i7", kind="rating", value=3.0),  # rated too low
                event("b", 90, "i8", kind="rating", value=4.0),  # on no slate
            ],
            [
                ranking("a", 10, ["i0", "i1", "i3"]), ranking("a", 20, ["i5", "i2"]), ranking("b", 10, ["i5", "i7"]),
            ],
        )
    )  # fmt: skip
    assert found.hits.tolist() == [1, 2, 0, -1]
    assert found.unjudged == 1
    assert found.hr == 0.75
    assert found.cold.tolist() == [1, 2, -1]
    assert found.ndcg == pytest.approx((1 / math.log2(3) + 1 / math.log2(4) + 1) / 4)
    assert found.as_dict()["hits_by_position"] == [1, 1, 1]
    assert found.coverage == 6 / 20
    assert found.as_dict()["reasons"] == {
        "similar": {"share": 0.75, "first": 1.0}, "popular": {"share": 0.25, "first": 0.0}
    }  # fmt: skip
    assert found.as_dict()["click_through"] == {"not_measured": "no impression names a ranking"}


def test_what_was_ranked_before_the_stretch_is_what_its_first_events_are_judged_by_and_no_more() -> None:
    slates = [ranking("a", 10, ["i0", "i1"]), ranking("b", 50, ["i2"])]
    found = evaluate(served([event("a", 40, "i1")], slates, earlier=1))
    assert found.hits.tolist() == [1]
    assert found.as_dict()["rankings"] == 1
    assert found.coverage == 1 / 20
    assert found.as_dict()["reasons"]["similar"]["first"] == 1
    assert found.served.first_reasons.total() == 1
    assert found.delay is None


def test_click_through_counts_what_was_shown_once() -> None:
    slates = [ranking(f"u{n}", 10, ["i0", "i1", "i2"]) for n in range(4)]
    happened = [
        event(f"u{n}", 20 + place, f"i{place}", "impression", ranking_id=f"u{n}-10")
        for n in range(4)
        for place in range(2)
    ]
    happened += [event("u0", 30, "i0", "impression", ranking_id="u0-10")]
    happened += [event(f"u{n}", 40, "i0", ranking_id=f"u{n}-10") for n in range(3)]
    happened += [event("u0", 41, "i0", ranking_id="u0-10"), event("u3", 42, "i2", ranking_id="u3-10")]
    assert evaluate(served(happened, slates)).clicks == [(4, 3), (4, 0), (0, 0)]


def test_novelty_is_of_what_was_known_by_then() -> None:
    found = served(
        [event("b", 1, "i0"), event("c", 2, "i0"), event("d", 99, "i1")],
        [ranking("a", 10, ["i0", "i1"]), ranking("a", 11, [])],
    )
    own, everything = served_joins.taken_before(found.rankings, found.events)
    assert (own.tolist(), everything.tolist()) == ([[2, 0], [-1, -1]], [2, 2])
    bits = served_joins.surprise(own, everything, len(found.items))
    assert bits[0] == pytest.approx([-math.log2(3 / 22), -math.log2(1 / 22)])
    assert np.isnan(bits[1]).all()
    assert evaluate(found).new_share == 1


def test_exposure_of_the_second_half_by_popularity_in_the_first() -> None:
    happened = [event(f"u{n}", n, "i0") for n in range(10)] + [event(f"u{n}", 100 + n, "i1") for n in range(10)]
    found = evaluate(served(happened, [ranking("a", 5, ["i5"]), ranking("a", 150, ["i0"])]))
    assert found.by_popularity is not None
    assert found.by_popularity.exposure[-1] == 1
    assert found.gini == pytest.approx(19 / 20)
    assert dict(zip(found.by_category.names, found.by_category.exposure.tolist(), strict=True)) == {
        "c0": 1.0,
        "c1": 0.0,
    }


def crowd(users: int, hit: float, **more: object) -> tuple[list[tuple[int, Interaction]], list[Published]]:
    """Each user likes ten things, of which the slate held a share; those with an odd number are `old`."""
    rng = np.random.default_rng(users)
    happened, slates = [], []
    for user in range(users):
        slates.append(ranking(f"u{user}", 10, ITEMS[:10]))
        likely = hit * (0.2 if user % 2 else 1.8)
        for n in range(10):
            item = ITEMS[n] if rng.random() < likely else ITEMS[n + 10]
            happened.append(event(f"u{user}", 20 + 100 * n, item, context={"age": "old" if user % 2 else "young"}))
    return happened, slates


def test_a_group_that_is_served_worse_raises_an_alarm_and_the_others_none() -> None:
    found = evaluate(served(*crowd(60, 0.3), group_by=("age", "country")))
    assert {group.kind for group in found.groups} == {"age"}
    assert {group.name: group.quality.worse for group in found.groups if group.kind == "age"} == {
        "old": True, "young": False,
    }  # fmt: skip
    assert any(alarm.startswith("age old") for alarm in found.alarms)
    served_so = served(*crowd(60, 0.3), group_by=("age",))
    assert not evaluate(served_so, Plan(tolerance=0.95)).alarms
    assert not evaluate(served(*crowd(60, 0.0), group_by=("age",))).alarms


def test_users_are_grouped_by_what_they_like_most() -> None:
    """Even items are of one category, odd ones of the other."""
    likes = {f"u{n}": (["i1", "i3", "i2"] if n < 12 else ["i4", "i6", "i5"]) for n in range(30)}
    happened = [event(user, 20 + at, item) for user, items in likes.items() for at, item in enumerate(items)]
    found = evaluate(served(happened, [ranking(user, 10, ["i1", "i2"]) for user in likes]))
    named = {group.name: (group.quality.users, group.quality.mean) for group in found.groups}
    assert named == {"c0": (18, 0.0), "c1": (12, pytest.approx(2 / 3))}


def test_variants_are_compared_by_users_whose_time_is_over() -> None:
    happened, slates = crowd(400, 0.5)
    for user, slate in enumerate(slates):
        slate.variant = "new" if user % 2 == 0 else "old"
    slates.append(ranking("u0", 15, ITEMS[:5], variant="old"))  # moved
    slates.append(ranking("late", 900, ITEMS[:5], variant="old"))  # not over
    found = evaluate(served(happened, slates), Plan(window_s=0.5, planned=200, shares={"old": 0.5, "new": 0.5}))
    assert found.experiment is not None
    assert found.experiment["control"]["variant"] == "old"
    assert found.experiment["control"]["users"] == 200
    (new,) = found.experiment["variants"]
    assert (new["users"], new["verdict"]) == (199, "better")
    # Five of the ten likings fall within half a second.
    assert new["mean"] == pytest.approx(4.5, abs=0.2)
    assert any("1 users changed" in note for note in found.notes)
    assert any("1 users had their first" in note for note in found.notes)
    assert found.experiment["sharing"]["users"] == {"old": 201, "new": 199}
    assert found.experiment["sharing"]["as_planned"]
    assert found.experiment["decided"]
    assert found.experiment["in_words"][0].startswith("new against old: decided, better; 4.")
    rate = found.experiment["hit_rate"]
    assert rate["variants"][0]["mean"] == pytest.approx(4.5 / 5, abs=0.04)
    assert rate["control"]["mean"] == pytest.approx(0.5 / 5, abs=0.04)
    assert found.experiment["click_through"] is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_users_that_were_not_shared_out_as_planned_raise_an_alarm_and_nothing_is_decided() -> None:
    happened, slates = crowd(400, 0.5)
    for user, slate in enumerate(slates):
        slate.variant = "new" if user % 2 == 0 else "old"
    served_so = served(happened, slates)
    found = evaluate(served_so, Plan(window_s=0.5, shares={"old": 0.8, "new": 0.2}))
    assert "experiment: users were not shared out as planned" in found.alarms
    assert found.experiment is not None
    assert (found.experiment["decided"], len(found.experiment["in_words"])) == (False, 1)
    unknown = evaluate(served_so, Plan(window_s=0.5)).experiment
    assert unknown is not None
    assert unknown["sharing"] is None
    assert evaluate(served_so, Plan(shares={"other": 0.5, "another": 0.5})).experiment is None
    some = evaluate(served_so, Plan(shares={"old": 0.5, "other": 0.5}))
    assert any("left out: new" in note for note in some.notes)


def test_click_through_of_variants_is_of_what_their_users_were_shown() -> None:
    happened, slates = [], []
    for user in range(400):
        slate = ranking(f"u{user}", 10, ITEMS[:4], variant="new" if user % 2 else "old")
        slates.append(slate)
        happened += [
            event(f"u{user}", 20, item, "impression", ranking_id=slate.ranking_id)
            for item in ITEMS[: 2 if user % 3 else 4]
        ]
        if user % 8 == 1:
            happened.append(event(f"u{user}", 30, ITEMS[1], ranking_id=slate.ranking_id))
    happened += [event("u0", 5_000, ITEMS[0], ranking_id="u0-10")]  # too late
    found = evaluate(served(happened, slates), Plan(window_s=1, shares={"old": 0.5, "new": 0.5})).experiment
    assert found is not None
    shown = sum(2 if user % 3 else 4 for user in range(1, 400, 2))
    assert found["click_through"]["control"]["mean"] == 0
    assert found["click_through"]["variants"][0]["mean"] == pytest.approx(50 / shown)


def test_two_of_a_kind_are_not_told_apart_however_often_a_log_is_looked_at() -> None:
    """One log, shared out again and again by the worker's arithmetic, and looked at while it grows."""
    rng = np.random.default_rng(8)
    users, length = 600, 6
    happened, slates = [], []
    for user, (likely, likings) in enumerate(
        zip(rng.beta(1, 3, users), rng.integers(0, length + 1, users), strict=True)
    ):
        slates.append(ranking(f"u{user}", 100 * user, ITEMS[:length]))
        for n in range(likings):
            item = ITEMS[n] if rng.random() < likely else ITEMS[n + 10]
            at, named = 100 * user + 1 + n, f"u{user}-{100 * user}"
            happened.append(event(f"u{user}", at, item, "impression", ranking_id=named))
            happened.append(event(f"u{user}", at, item, ranking_id=named))
    whole = served(happened, slates)
    rankings, events = whole.rankings, whole.events
    ranking_of = served_joins.seen(rankings, events)
    judged = served_joins.news(events) & events.liked & (ranking_of >= 0)
    place = served_joins.places(rankings, ranking_of, events.item)
    keys = rng.integers(0, 2**63, users).astype(np.uint64)
    plan = Plan(window_s=0.05, planned=400, shares={"one": 0.5, "other": 0.5})

    def told_apart(salt: int) -> list[bool]:
        variant = Experiment(salt, ["one", "other"], [0.5, 0.5]).variants(keys)[rankings.user]
        found = np.zeros(4, bool)
        for until in range(100 * 250, 100 * users + 1, 100 * 25):
            e, r = np.searchsorted(events.logged, until), np.searchsorted(rankings.published, until)
            by_then = replace(
                whole,
                rankings=cut(replace(rankings, variant=variant), int(r)),
                events=cut(events, int(e)),
                variants=["one", "other"],
            )
            seen = served_variants.compare(by_then, plan, judged[:e], place[:e], [])
            assert seen is not None
            figures = [seen, seen["hit_rate"], seen["click_through"]]
            found |= [*(each["variants"][0]["p"] < 0.05 for each in figures), not seen["sharing"]["as_planned"]]
        return found.tolist()

    runs = 100
    rates = np.mean([told_apart(salt) for salt in range(runs)], axis=0)
    assert (rates <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)).all(), rates


def cut(records: Any, count: int) -> Any:
    """The first records of some."""
    arrays_of = {name: getattr(records, name) for name in records.__dataclass_fields__}
    return replace(records, **{name: each[:count] for name, each in arrays_of.items() if isinstance(each, np.ndarray)})


def test_a_hit_rate_that_falls_is_noticed_and_a_steady_one_is_not() -> None:
    rng = np.random.default_rng(3)
    steady = np.where(rng.random(20_000) < 0.2, 0, -1)
    at = np.arange(20_000)
    assert moves(steady, at) == []
    fallen = np.concatenate([steady[:10_000], np.where(rng.random(10_000) < 0.1, 0, -1)])
    ((time, direction),) = moves(fallen, at)
    assert direction == -1
    assert 10_000 < time < 14_000
    assert moves(fallen[:TARGETS], at[:TARGETS]) == []


def test_periods_hold_all_targets() -> None:
    hits = np.array([0, -1] * 100)
    found = periods(hits, np.arange(200))
    assert [(period.since, period.targets, period.hr) for period in found] == [(50 * n, 50, 0.5) for n in range(4)]
    assert all(period.low < period.hr < period.high for period in found)
    assert periods(hits[:0], hits[:0]) == []
    assert gain(np.array([0, 2, -1])).tolist() == [1.0, 0.5, 0.0]


def test_little_is_known_of_little_and_all_of_it_is_json() -> None:
    for happened, slates in (
        ([], [ranking("a", 10, [])]),
        ([event("a", 5, "gone")], [ranking("a", 10, ["gone", "i0"])]),
    ):
        found = evaluate(served(happened, slates, ("age",)))
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["hit_rate"] is None
        assert not found.alarms
