"""The compiled ranking and learning: against a plain computation, and what a log, a snapshot and its bounds promise."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest

from upwell.ranking import kernel, learner
from upwell.ranking.learner import SCORERS, STAGES, STATE, Stream, Tuning

ITEMS, USERS, EVENTS = 60, 25, 700
TUNING = Tuning(refresh=1, tops=ITEMS)
"""Everything is a candidate, and nothing that is derived is old."""
BOUNDS = np.asarray(STAGES)


def stream(seed: int = 5, events: int = EVENTS, items: int = ITEMS) -> Stream:
    rng = np.random.default_rng(seed)
    chance = rng.dirichlet(np.full(items, 0.5))
    return Stream(
        rng.integers(USERS, size=events).astype(np.int32),
        rng.choice(items, events, p=chance).astype(np.int32),
        rng.choice(np.array([-0.6, 0.2, 0.6, 1.0], np.float32), events),
        np.sort(rng.integers(0, 40_000_000, events)),
        np.ones(events, bool),
    )


def _chains(log: Stream):
    return np.full(len(log.item), -1, np.int32), np.full(USERS, -1, np.int32)


def _whole(log: Stream, items: int = ITEMS):
    """All events are learned from, all neighbours kept."""
    return np.ones(len(log.item), bool), np.ones(items, bool)


def learned(log: Stream, tuning: Tuning = TUNING, items: int = ITEMS):
    shared = learner.new(items, tuning)
    shared.live[:] = True
    shared.category[:, 0] = 1 + np.arange(items) % 4
    shared.category[:, 1] = 5 + np.arange(items) % 3
    kernel.refresh(shared, tuning)
    recent = learner.users(USERS, tuning)
    rank, history = np.full(len(log.item), -1), np.zeros(len(log.item), np.int64)
    slates = np.full((len(log.item), 10), -1, np.int32)
    scratch, room = learner.scratch(items, 8), learner.lessons(1, tuning)
    kernel.replay(
        shared,
        tuning,
        recent,
        scratch,
        room,
        log,
        *_whole(log, items),
        BOUNDS,
        *_chains(log),
        rank,
        history,
        slates,
        0,
        len(log.item),
    )
    return shared, recent, rank, history, slates


def ranked(shared, recent, slot: int, now: int, gone=(), tuning: Tuning = TUNING):
    """Scores by row, and the features by row."""
    scratch = learner.scratch(len(shared.counts), 8)
    stage = kernel.stage_of(recent.events[slot], BOUNDS)
    found = kernel.score(shared, tuning, recent, slot, now, np.array(gone, np.int32), len(gone), stage, scratch)
    features = {}
    for k in range(found):
        out = np.zeros(len(SCORERS), np.float32)
        kernel.feature_of(shared, scratch, k, stage, out)
        features[int(scratch.rows[k])] = out
    return dict(zip(scratch.rows[:found].tolist(), scratch.score[:found].tolist(), strict=True)), features


def test_equals_a_plain_computation() -> None:
    log = stream()
    shared, recent, *_ = learned(log)
    together, following, agreed, burst = (defaultdict(float) for _ in range(4))
    count, likes = defaultdict(float), defaultdict(float)
    held: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
    for user, item, valence, now in zip(*(column.tolist() for column in log[:4]), strict=True):
        for back, (before, liking, then) in enumerate(reversed(held[user][-TUNING.last :])):
            if before == item:
                continue
            near, nearer = 0.9**back, 0.7**back
            sign = (liking >= 0.5 and valence >= 0.5) - ((liking >= 0.5) != (valence >= 0.5))
            following[before, item] += nearer
            for pair in ((before, item), (item, before)):
                together[pair] += near
                agreed[pair] += sign * near
                burst[pair] += nearer * (now - then < TUNING.burst_ms)
        count[item] += 1
        likes[item] += valence >= 0.5
        held[user].append((item, valence, now))
    now = int(log.time[-1]) + 1
    for slot in range(USERS):
        scores, features = ranked(shared, recent, slot, now)
        stage = kernel.stage_of(recent.events[slot], BOUNDS)
        assert len(scores) == ITEMS
        for item in range(ITEMS):
            sums = [0.0] * 4
            for back, (before, liking, then) in enumerate(reversed(held[slot][-TUNING.last :])):
                damp = (count[before] + 1) ** -float(TUNING.damping)
                sums[0] += 0.9**back * damp * together[before, item]
                sums[1] += (0.7**back * damp * following[before, item]) if back < 6 else 0.0
                sums[2] += 0.9**back * damp * liking * agreed[before, item]
                sums[3] += 0.9**back * damp * burst[before, item] * (now - then < TUNING.session_ms)
            expected = {
                "together": math.log(sums[0] + TUNING.prior),
                "next": math.log(sums[1] + TUNING.prior_next),
                "liked together": sums[2] / math.sqrt(count[item] + 1),
                "burst": math.log(sums[3] + TUNING.prior_burst),
                "ever": math.log(count[item] + 1),
                "liked": math.log((likes[item] + 2) / (count[item] + 4)),
            }
            for name, value in expected.items():
                assert features[item][SCORERS.index(name)] == pytest.approx(value, abs=2e-4), (slot, item, name)
            assert scores[item] == pytest.approx(float(features[item] @ shared.mix[stage]), abs=1e-3)


def test_the_state_is_a_function_of_the_log_alone() -> None:
    log = stream()
    one, other = learned(log)[0], learned(log)[0]
    for name in STATE:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def test_lessons_of_a_batch_are_those_of_its_events() -> None:
    log = stream()
    tuning = TUNING
    shared = learner.new(ITEMS, tuning)
    recent = learner.users(USERS, tuning)
    room = learner.lessons(len(log.item), tuning)
    for at, (slot, item, valence, now) in enumerate(zip(*log[:4], strict=True)):
        stage = kernel.stage_of(recent.events[slot], BOUNDS)
        kernel.note(tuning, recent, slot, item, valence, now, stage, room, at)
        kernel.remember(tuning, recent, slot, item, valence, now)
    kernel.apply(shared, tuning, room, len(log.item))
    replayed = learned(log)[0]
    for name in set(STATE) - {"mix", "slopes"}:
        assert getattr(shared, name).tobytes() == getattr(replayed, name).tobytes(), name


def test_a_snapshot_goes_on_where_it_was_made_under_other_rows() -> None:
    log = stream()
    tuning = TUNING._replace(neighbours=12)
    shared, recent, *_ = learned(log, tuning)
    moved = np.random.default_rng(8).permutation(ITEMS + 5)[:ITEMS]
    restored = learner.restore(learner.snapshot(shared, ITEMS, tuning), moved, ITEMS + 5, tuning)
    restored.live[moved] = shared.live
    restored.category[moved] = shared.category
    kernel.refresh(restored, tuning)
    elsewhere = recent._replace(item=moved[recent.item].astype(np.int32))
    now = int(log.time[-1])
    for slot in range(USERS):
        scores, _ = ranked(shared, recent, slot, now, tuning=tuning)
        others, _ = ranked(restored, elsewhere, slot, now, tuning=tuning)
        assert {int(moved[row]): value for row, value in scores.items()} == pytest.approx(
            {row: value for row, value in others.items() if row in moved}, abs=1e-5
        )


def test_a_snapshot_of_another_shape_is_refused() -> None:
    held = learner.snapshot(learned(stream())[0], ITEMS, TUNING)
    with pytest.raises(ValueError, match="other neighbours"):
        learner.restore(held, np.arange(ITEMS), ITEMS, TUNING._replace(neighbours=7))
    for name, broken in (("neighbour", held["neighbour"][:-1]), ("neighbour", held["neighbour"] + ITEMS)):
        with pytest.raises(ValueError, match="other neighbours"):
            learner.restore(held | {name: broken}, np.arange(ITEMS), ITEMS, TUNING)


def test_neighbours_are_bounded_and_the_strong_ones_stay() -> None:
    tuning = TUNING._replace(neighbours=16)
    rng = np.random.default_rng(2)
    events = 6_000
    item = rng.integers(2, ITEMS, events).astype(np.int32)
    # Items 0 and 1 come one after the other again and again, among everything else.
    item[::20], item[1::20] = 0, 1
    log = Stream(
        (np.arange(events) // 20 % USERS).astype(np.int32), item, np.ones(events, np.float32),
        np.arange(events) * 1_000, np.ones(events, bool),
    )  # fmt: skip
    shared, *_ = learned(log, tuning)
    assert shared.filled.max() == 16
    kept = shared.neighbour.reshape(ITEMS, 16)[shared.block]
    assert 1 in kept[0]
    assert 0 in kept[1]
    weights = shared.weight.reshape(ITEMS, 16, 4)[shared.block[0], :, 0]
    assert kept[0][weights.argmax()] == 1


def test_items_that_nobody_takes_any_more_give_their_memory_to_those_that_came_since() -> None:
    items, events = 3_000, 12_000
    rng = np.random.default_rng(7)
    # Ten articles are out at a time, and each is taken for a while.
    item = (np.arange(events) * (items - 10) // events + rng.integers(10, size=events)).astype(np.int32)
    user = rng.integers(USERS, size=events).astype(np.int32)
    log = Stream(user, item, np.ones(events, np.float32), np.arange(events) * 1_000, np.ones(events, bool))
    bounded = TUNING._replace(neighbours=32, learned_items=500, refresh=1_000)
    few, all_ = (learned(log, tuning, items)[0] for tuning in (bounded, bounded._replace(learned_items=items)))
    assert (len(few.neighbour), len(all_.neighbour)) == (500 * 32, items * 32)
    assert (few.block >= 0).sum() == 500
    assert few.filled[few.block < 0].max() == 0

    def company(shared, row: int) -> dict[int, list[float]]:
        first = int(shared.block[row]) * 32
        places = range(first, first + int(shared.filled[row]))
        return {int(shared.neighbour[m]): shared.weight[4 * m : 4 * m + 4].tolist() for m in places}

    newest = range(items - 150, items)
    assert [company(few, row) for row in newest] == [company(all_, row) for row in newest]
    assert any(company(few, row) for row in newest)
    assert not any(company(few, row) for row in range(items // 2))


def test_what_is_gone_or_not_live_is_no_candidate() -> None:
    log = stream()
    shared, recent, *_ = learned(log)
    shared.live[7] = False
    scratch = learner.scratch(ITEMS, 8)
    gone = np.array([3, 4], np.int32)
    found = kernel.score(shared, TUNING, recent, 0, int(log.time[-1]), gone, 2, 4, scratch)
    slate, scores, at = np.full(ITEMS, -1, np.int32), np.zeros(ITEMS, np.float32), np.zeros(ITEMS, np.int32)
    held = kernel.best(scratch, found, slate, scores, at)
    assert set(slate[:held]) == set(range(ITEMS)) - {3, 4, 7}
    assert (np.diff(scores[:held]) <= 0).all()
    assert (scratch.rows[at[:held]] == slate[:held]).all()
    # What a ranking leaves in the working memory does not reach the next one.
    again, _ = ranked(shared, recent, 0, int(log.time[-1]), gone)
    found = kernel.score(shared, TUNING, recent, 0, int(log.time[-1]), gone, 2, 4, scratch)
    stage_scores = dict(zip(scratch.rows[:found].tolist(), scratch.score[:found].tolist(), strict=True))
    assert stage_scores.keys() == again.keys()


def test_what_is_no_candidate_is_ranked_last_and_teaches_the_mix_nothing() -> None:
    log = stream()
    shared = learner.new(ITEMS, TUNING)
    kernel.refresh(shared, TUNING)
    before = shared.mix.copy()
    rank, history = np.full(EVENTS, -1), np.zeros(EVENTS, np.int64)
    slates = np.full((EVENTS, 10), -1, np.int32)
    scratch, room = learner.scratch(ITEMS, 8), learner.lessons(1, TUNING)
    kernel.replay(
        shared,
        TUNING,
        learner.users(USERS, TUNING),
        scratch,
        room,
        log,
        *_whole(log),
        BOUNDS,
        *_chains(log),
        rank,
        history,
        slates,
        0,
        len(log.item),
    )
    assert set(rank) == {-1, ITEMS}
    assert (shared.mix == before).all()
    assert (slates == -1).all()


def test_equal_scores_are_in_the_order_of_rows() -> None:
    shared = learner.new(ITEMS, TUNING)
    shared.live[:] = True
    kernel.refresh(shared, TUNING)
    scratch = learner.scratch(ITEMS, 8)
    found = kernel.score(shared, TUNING, learner.users(1, TUNING), 0, 0, np.zeros(0, np.int32), 0, 0, scratch)
    slate, scores, at = np.full(5, -1, np.int32), np.zeros(5, np.float32), np.zeros(5, np.int32)
    assert kernel.best(scratch, found, slate, scores, at) == 5
    assert slate.tolist() == [0, 1, 2, 3, 4]


def test_popularities_survive_any_length_of_log() -> None:
    # Fast growth: the gain passes its limit many times.
    tuning = TUNING._replace(growth=(1.5, 2.0, 1.5))
    shared, *_ = learned(stream(events=3_000), tuning)
    assert np.isfinite(shared.popular).all()
    assert np.isfinite(shared.popular_at).all()
    assert np.isfinite(shared.base).all()
    assert shared.gain.max() <= 2e15


def test_an_empty_catalogue_ranks_nothing() -> None:
    shared = learner.new(0, TUNING)
    kernel.refresh(shared, TUNING)
    none = np.zeros(0, np.int32)
    assert len(learner.restore(learner.snapshot(shared, 0, TUNING), np.zeros(0, np.int64), 0, TUNING).counts) == 0
    assert kernel.best(learner.scratch(0, 0), 0, none, np.zeros(0, np.float32), none) == 0


def test_the_gradient_is_that_of_the_likelihood() -> None:
    log = stream()
    shared, recent, *_ = learned(log)
    now, none = int(log.time[-1]), np.zeros(0, np.int32)
    for slot, target in ((0, 5), (1, 17), (2, 40)):
        stage = kernel.stage_of(recent.events[slot], BOUNDS)
        scores, features = ranked(shared, recent, slot, now)
        table = np.array([features[row] for row in scores], np.float64)
        chance = np.exp(np.array(list(scores.values())) - max(scores.values()))
        chance[chance < 0.0025] = 0
        expected = features[target] - (chance / chance.sum()) @ table
        scratch, out = learner.scratch(ITEMS, 8), np.zeros(len(SCORERS), np.float32)
        found = kernel.score(shared, TUNING, recent, slot, now, none, 0, stage, scratch)
        assert kernel.gradient(shared, scratch, found, target, stage, out)
        np.testing.assert_allclose(out, expected, atol=1e-3)
    assert not kernel.gradient(shared, scratch, found, ITEMS + 1, stage, out)


def test_what_has_just_become_popular_is_a_candidate_at_once() -> None:
    tuning = TUNING._replace(tops=5, refresh=1_000_000)
    rng = np.random.default_rng(3)
    # Ten users take this and that; then newcomers come, and all of them take item 7.
    user = np.concatenate([rng.integers(10, size=560), np.arange(10, 22)]).astype(np.int32)
    item = rng.integers(20, ITEMS, len(user)).astype(np.int32)
    item[560:] = 7
    log = Stream(user, item, np.ones(len(user), np.float32), np.arange(len(user)) * 1_000, np.ones(len(user), bool))
    shared, recent, *_ = learned(log, tuning)
    assert recent.events[USERS - 1] == 0
    scores, _ = ranked(shared, recent, USERS - 1, len(user) * 1_000, tuning=tuning)
    assert max(scores, key=scores.__getitem__) == 7
    for top in shared.top:
        assert len(set(top.tolist())) == 5


def test_a_replay_in_parts_is_the_replay() -> None:
    log = stream()
    shared, _, rank, history, slates = learned(log)
    parts = learner.new(ITEMS, TUNING)
    parts.live[:] = True
    parts.category[:] = shared.category
    kernel.refresh(parts, TUNING)
    found = np.full(EVENTS, -1), np.zeros(EVENTS, np.int64), np.full((EVENTS, 10), -1, np.int32)
    recent, scratch, room = learner.users(USERS, TUNING), learner.scratch(ITEMS, 8), learner.lessons(1, TUNING)
    chains = _chains(log)
    for begin, end in ((0, 7), (7, 500), (500, EVENTS)):
        kernel.replay(parts, TUNING, recent, scratch, room, log, *_whole(log), BOUNDS, *chains, *found, begin, end)
    for mine, theirs in zip(found, (rank, history, slates), strict=True):
        assert (mine == theirs).all()


def test_a_user_leaves_nothing_behind_for_the_next_one() -> None:
    log = stream()
    shared, recent, *_ = learned(log)
    scratch = learner.scratch(ITEMS, 8)
    for slot in range(USERS):
        stage = kernel.stage_of(recent.events[slot], BOUNDS)
        kernel.score(shared, TUNING, recent, slot, 0, np.zeros(0, np.int32), 0, stage, scratch)
        assert not scratch.sums.any()
        assert not scratch.interest.any()
