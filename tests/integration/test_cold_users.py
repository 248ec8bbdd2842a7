"""New users on the real broker and database: what their segments like, said in words, through restarts; and what they are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from confluent_kafka import TopicPartition

from stream import Asker, Stream, assert_numbering, rankings
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import Ranking, Rule, Statistics
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

EACH = 10
"""Items that users of one country like, and clicks on each of them."""
COUNTRIES = ("de", "fr", "jp")


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(
        stack,
        prefix,
        cold_start={"segments": ["country", "age"], "segment_weight": 1.0, "impressions": 0},
        statistics={"snapshot_s": 0.2},
    )
    try:
        yield made
    finally:
        made.close()


def send_countries(stream: Stream, ids: list[str]) -> dict[str, set[str]]:
    """Users of three countries click, each three of the items that their country likes; returns those."""
    liked = {name: ids[at * EACH : (at + 1) * EACH] for at, name in enumerate(COUNTRIES)}
    number = 0
    for turn in range(EACH):
        for name, items in liked.items():
            for at in range(EACH):
                user = f"{name}{turn}-{at // 3}"
                stream.event(number, user, items[(at + turn) % EACH], context={"country": name, "age": [turn]})
                number += 1
    stream.flush()
    return {name: set(items) for name, items in liked.items()}


def held(ranking: Ranking) -> set[str]:
    return {item.item_id for item in ranking.items}


def words(ranking: Ranking) -> set[str]:
    return {reason.text for item in ranking.items for reason in item.reasons}


def test_a_new_user_gets_what_the_segment_likes_and_still_does_after_a_crash_and_from_a_snapshot(
    stream: Stream,
) -> None:
    ids = stream.features(400)
    liked = send_countries(stream, ids)
    clicks = len(COUNTRIES) * EACH * EACH
    with stream.reading(Topic.RANKINGS) as log:
        with stream.worker("interactions") as worker:
            stream.drained("interactions", Topic.INTERACTIONS)
            anna, marie, somebody = (Asker(stream, log, name) for name in ("anna", "marie", "somebody"))
            # What has been learned is read back a moment after it is told.
            eventually(lambda: held(anna.ask({"country": "de", "age": ["odd"], "note": "x" * 60_000})) == liked["de"])
            assert "popular with others (country de)" in words(anna.ask())
            assert held(marie.ask({"country": "fr", "age": 34})) == liked["fr"]
            assert words(marie.ask()) & {"popular with others (country fr)"}
            usual = somebody.ask()
            assert held(usual) <= set().union(*liked.values())
            assert held(usual) not in liked.values()
            assert not any("(" in text for text in words(usual))
            assert held(somebody.ask({"country": None, "age": 0.5})) == held(usual)
            eventually(
                lambda: (
                    stream.rows("SELECT user_id, segments FROM profiles WHERE user_id IN ('anna', 'marie') ORDER BY 1")
                    == [("anna", ["country=de"]), ("marie", ["country=fr", "age=34"])]
                )
            )
            worker.kill()
        with stream.worker("interactions"):
            assert held(anna.ask()) == liked["de"]
        # Only the snapshot still knows what it was.
        (told,) = stream.rows("SELECT next_offset FROM statistics_snapshots")[0]
        cut = [TopicPartition(stream.topic(Topic.STATISTICS), 0, told)]
        for deleted in stream.admin.delete_records(cut).values():
            deleted.result()
        with stream.worker("interactions"):
            assert held(marie.ask()) == liked["fr"]
            # Whoever has told more by doing is judged by that.
            for number in range(6):
                stream.event(clicks + number, "anna", ids[100 + number])
            stream.flush()
            stream.drained("interactions", Topic.INTERACTIONS)
            log.to_end()
            assert "popular with others (country de)" not in words(anna.ask())
        assert_numbering(rankings(log.to_end()))


def test_what_a_request_said_of_its_user_is_read_again_where_it_was_not_stored(stack: Stack, prefix: str) -> None:
    stream = Stream(
        stack,
        prefix,
        cold_start={"segments": ["country"], "segment_weight": 1.0, "impressions": 0},
        profiles={"flush_ms": 600_000},
    )
    try:
        liked = send_countries(stream, stream.features(400))
        with stream.reading(Topic.RANKINGS) as log:
            anna = Asker(stream, log, "anna")
            with stream.worker("interactions") as worker:
                stream.drained("interactions", Topic.INTERACTIONS)
                eventually(lambda: held(anna.ask({"country": "jp"})) == liked["jp"])
                stream.drained("interactions", Topic.INTERACTIONS)
                assert stream.rows("SELECT count(*) FROM profiles") == [(0,)]
                worker.kill()
            with stream.worker("interactions"):
                assert held(anna.ask()) == liked["jp"]
            assert_numbering(rankings(log.to_end()))
        assert stream.rows("SELECT segments FROM profiles WHERE user_id = 'anna'") == [(["country=jp"],)]
    finally:
        stream.close()


def test_who_asks_for_it_before_the_first_event_is_asked_about_all_tastes(stack: Stack, prefix: str) -> None:
    stream = Stream(stack, prefix)
    try:
        ids = stream.features(400)
        liked = send_countries(stream, ids)
        with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
            stream.drained("interactions", Topic.INTERACTIONS)
            anna = Asker(stream, log, "anna")
            wanted = {"elicit": True, "country": "de"}
            eventually(lambda: anna.ask(wanted).trigger == "elicitation")
            first = anna.ask(wanted)
            assert len(first.items) == 10
            # The first three tell the three tastes apart.
            assert all(held(first) & items for items in liked.values())
            assert {item.item_id in items for item in first.items[:3] for items in liked.values()} == {True, False}
            assert len({next(n for n, items in liked.items() if i.item_id in items) for i in first.items[:3]}) == 3
            assert {(r.kind, r.text) for i in first.items for r in i.reasons} == {
                ("asked", "tell us what you think of it")
            }
            assert anna.ask({"elicit": "yes"}).trigger == "rank_request"
            # Rules hold: what is blocked is not asked about, and no more of a group than a cap allows.
            shown = first.items[0].item_id
            for rule in (
                Rule("recalled", "block", items=[first.items[1].item_id]),
                Rule("few", "cap", most=2, per="category"),
            ):
                stream.send(Topic.RULES, rule.rule_id, rule)
            stream.flush()
            eventually(lambda: len(anna.ask(wanted).items) == 6)
            again = anna.ask(wanted)
            assert again.trigger == "elicitation"
            assert first.items[1].item_id not in held(again)
            assert set(Counter(int(i.item_id[1:]) % 3 for i in again.items).values()) == {
                2
            }  # categories of `Stream.features`
            stream.event(10_000, "anna", shown, "impression")
            stream.flush()
            stream.drained("interactions", Topic.INTERACTIONS)
            log.to_end()
            assert anna.ask(wanted).trigger == "elicitation"
            stream.event(10_001, "anna", shown)
            stream.flush()
            stream.drained("interactions", Topic.INTERACTIONS)
            log.to_end()
            usual = anna.ask(wanted)
            assert (usual.trigger, shown in held(usual)) == ("rank_request", False)
            assert_numbering(rankings(log.to_end()))
        # Where no attributes are named none are kept or told, whatever producers send.
        assert stream.rows("SELECT count(*) FROM profiles WHERE segments <> '{}'") == [(0,)]
        for record in stream.read(Topic.STATISTICS):
            assert not msgspec.json.decode(record.value(), type=Statistics).segments
    finally:
        stream.close()
