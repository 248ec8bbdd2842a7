"""Who a user is, by what events say: kept with the profile, whatever else producers put there, and counted for new users alone."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from upwell.interactions.profiles import Profiles
from upwell.interactions.readers import Learned
from upwell.interactions.segments import LONGEST, SegmentPriors, segment
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import SEGMENTS, Ranker
from upwell.ranking.segments import EVERYBODY, Segments
from upwell.settings import ColdStart

DAY = 86_400_000
NONE = np.zeros(0, np.int32)


@pytest.fixture
def profiles() -> Profiles:
    """Two users, ann and bob, and 300 items."""
    catalogue = Catalogue()
    for n in range(300):
        catalogue.put(f"i{n}", np.ones(4, np.float32) / 2, f"I{n}", [], 1.0)
    ranker = Ranker(catalogue, content=0.0)
    ranker.fit()
    found = Profiles(10, catalogue, 60 * DAY, ranker)
    found.load([("ann", 0), ("bob", 0)], lambda _: [], 1, 0)
    return found


def priors(profiles: Profiles, *attributes: str, learned: Segments | None = None, **settings: float) -> SegmentPriors:
    return SegmentPriors(ColdStart(segments=list(attributes), **settings), profiles, learned or Segments(60 * DAY))


def test_the_last_value_of_each_attribute_is_kept(profiles: Profiles) -> None:
    own, ann = priors(profiles, "country", "age", "country"), profiles.slots["ann"]
    for context in ({"country": "de", "device": "tv"}, {"age": 34}, None, {}, {"country": "fr", "age": None}):
        own.take(ann, context)
    assert profiles.segments[ann] == own.of(ann) == ("country=fr", "age=34")
    assert own.of(profiles.slots["bob"]) == ()
    assert own.counted(ann) == (EVERYBODY, "country=fr", "age=34")
    # Settings change: what is asked for no more does not count, and goes with the next event.
    later = priors(profiles, "age", "plan")
    assert later.of(ann) == ("age=34",)
    later.take(ann, {"plan": "x"})
    assert profiles.segments[ann] == ("age=34", "plan=x")


@pytest.mark.parametrize(
    "odd", [None, "", "  ", 0.5, ["de"], {"de": 1}, "x" * (LONGEST + 1), "d\x1fe", "line\nend", "x" * 60_000]
)
def test_values_that_are_no_segment_change_nothing(profiles: Profiles, odd: object) -> None:
    own, ann = priors(profiles, "country"), profiles.slots["ann"]
    assert segment("country", odd) == ""
    own.take(ann, {"country": odd})
    assert own.of(ann) == ()
    own.take(ann, {"country": "de"})
    own.take(ann, {"country": odd})
    assert own.of(ann) == ("country=de",)


def test_without_attributes_nothing_is_kept_counted_or_added(profiles: Profiles) -> None:
    learned = Segments(60 * DAY)
    learned.learn(DAY, [(EVERYBODY, 1, 5), ("country=de", 1, 5)])
    off, ann = priors(profiles, learned=learned), profiles.slots["ann"]
    off.take(ann, {"country": "de"})
    assert profiles.segments[ann] == ()
    assert off.counted(ann) == ()
    assert off.raised([ann]) is None
    assert off.words(ann) is None


def ranked(profiles: Profiles, own: SegmentPriors, slots: list[int]) -> list[dict[str, float]]:
    """Per user: items, best first, with what segments added to each."""
    interests, times = np.zeros((len(slots), 4), np.float32), np.full(len(slots), 10 * DAY)
    found = profiles.ranker.rank(
        profiles.recent, slots, times, [NONE] * len(slots), interests, profiles.catalogue.ties, 10, own.raised(slots)
    )
    return [
        dict(
            zip([profiles.catalogue.ids[row] for row in one.rows], one.contributions[:, SEGMENTS].tolist(), strict=True)
        )
        for one in found
    ]


def test_a_new_user_gets_what_the_segment_likes_and_later_less_and_others_nothing(profiles: Profiles) -> None:
    ann, bob = profiles.slots["ann"], profiles.slots["bob"]
    learned = Segments(60 * DAY)
    hidden = sorted(set(range(300)) - set(profiles.ranker.shared.top[0].tolist()))
    wanted, other = f"i{hidden[0]}", f"i{hidden[1]}"
    likings = [("country=de", hidden[0], 30), ("country=fr", hidden[1], 30)]
    learned.learn(DAY, [*likings, *((EVERYBODY, row, 30) for row in hidden[:2])])
    own = priors(profiles, "country", learned=learned, segment_events=2)
    own.take(ann, {"country": "de"})
    first, plain = ranked(profiles, own, [ann, bob])
    assert next(iter(first)) == wanted
    assert other not in first
    assert plain == ranked(profiles, priors(profiles), [bob])[0]
    told = own.words(ann)
    assert told is not None
    assert told(hidden[0]) == "country de"
    profiles.ranker.remember(profiles.recent, ann, 5, 1.0, DAY)
    assert 0 < ranked(profiles, own, [ann])[0][wanted] < first[wanted]
    profiles.ranker.remember(profiles.recent, ann, 6, 1.0, DAY)
    assert own.raised([ann]) is None
    # What is blocked for a user stays so.
    own.take(bob, {"country": "de"})
    (slate,) = profiles.ranker.rank(
        profiles.recent, [bob], np.array([DAY]), [np.array(hidden[:1], np.int32)], np.zeros((1, 4), np.float32),
        profiles.catalogue.ties, 10, own.raised([bob]),
    )  # fmt: skip
    assert hidden[0] not in slate.rows


def test_a_snapshot_of_a_release_that_knew_no_segments_is_read() -> None:
    old = msgspec.msgpack.encode([3, {"text-similar": [1.0, 0.5]}, ["i1"], {}, 7, {"i1": 2}])
    found = msgspec.msgpack.decode(old, type=Learned)
    assert (found.shown, found.segments) == ({"i1": 2}, None)


def test_scores_are_the_sums_of_contributions_with_segments_too(profiles: Profiles) -> None:
    chance, ranker = np.random.default_rng(1), profiles.ranker
    learned = Segments(60 * DAY)
    for row in chance.integers(0, 300, 2_000).tolist():
        learned.learn(DAY, [(EVERYBODY, row, 1), (f"country={row % 3}", row, 1)])
    own = priors(profiles, "country", learned=learned)
    slots = [profiles.slots["ann"], profiles.slots["bob"]]
    for slot in slots:
        own.take(slot, {"country": slot % 3})
    ranker.remember(profiles.recent, slots[0], 7, 1.0, DAY)
    for one in ranker.rank(
        profiles.recent, slots, np.full(2, DAY), [NONE, np.array([3], np.int32)], np.zeros((2, 4), np.float32),
        profiles.catalogue.ties, 300, own.raised(slots),
    ):  # fmt: skip
        assert len(set(one.rows.tolist())) == len(one.rows)
        rest = one.scores - one.contributions.sum(axis=1)
        np.testing.assert_allclose(rest, rest[0], atol=1e-4)
        order = np.lexsort((profiles.catalogue.ties[one.rows], -one.scores))
        np.testing.assert_array_equal(order, np.arange(len(one.rows)))
    assert (ranker.scratch.place == -1).all()
