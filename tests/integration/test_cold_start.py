"""What is new, on the real broker and database: an item that comes while the worker runs gets its first impressions."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from confluent_kafka import Message

from stream import DIMENSION, Asker, Stream, rankings, send_random, total
from upwell.bus.topics import Topic
from upwell.events.contracts import Statistics
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

QUOTA = 8
BATCH = 10


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    groups = {
        "kafka": {"batch_max_records": BATCH},
        "cold_start": {"impressions": QUOTA, "share": 0.5},
        "ranking": {"weight_content": 0},
        "statistics": {"snapshot_s": 0.2},
    }
    made = Stream(stack, prefix, **groups)
    try:
        yield made
    finally:
        made.close()


def viewers(records: list[Message], item: str) -> set[str]:
    return {
        user for user, all_ in rankings(records).items() for each in all_ if item in [i.item_id for i in each.items]
    }


def told(stream: Stream, item: str) -> int:
    """First impressions of an item that workers have told each other of."""
    with stream.reading(Topic.STATISTICS) as log:
        records = [msgspec.json.decode(record.value(), type=Statistics) for record in log.to_end()]
    return sum(shown.times for record in records for shown in record.shown if shown.item_id == item)


def test_a_new_item_gets_its_first_impressions_and_no_more(stream: Stream) -> None:
    ids = stream.features(300)  # so many that nothing unknown is among anybody's best
    with stream.reading(Topic.RANKINGS) as log:
        with stream.worker("interactions"):
            send_random(stream, ids, 600)
            log.until(lambda found: total(found) == 600)
            stream.feature("late", np.random.default_rng(3).normal(size=DIMENSION), ["c1"])
            stream.flush()
            sent = 600
            while len(viewers(log.records, "late")) < QUOTA and sent < 6000:
                send_random(stream, ids, 200, start=sent)
                sent += 200
                log.until(lambda found, sent=sent: total(found) == sent)
            # Two batches may be under way before what they counted is read back.
            assert QUOTA <= len(viewers(log.records, "late")) <= QUOTA + 2 * BATCH
            assert not any(
                "late" in [i.item_id for i in all_[-1].items[:-1]] for all_ in rankings(log.records).values()
            )
        before = told(stream, "late")
        assert before >= QUOTA
        with stream.worker("interactions"):  # another one knows what was shown
            send_random(stream, ids, 600, start=sent)
            log.until(lambda found: total(found) == sent + 600)
    # Places that it earns are its own; as an item that is owed something it would be counted wherever it stands.
    assert told(stream, "late") == before


def test_a_new_item_is_recommended_for_a_liked_one_that_it_resembles(stack: Stack, prefix: str) -> None:
    stream = Stream(stack, prefix)
    try:
        ids = stream.features(60)
        chance = np.random.default_rng(7)  # as `Stream.features` draws
        vectors = {item: chance.normal(size=DIMENSION) for item in ids}
        with stream.reading(Topic.RANKINGS) as log, stream.worker("interactions"):
            send_random(stream, ids, 1500, users=50)
            log.until(lambda found: total(found) == 1500)
            liked = {"ann": ["i5", "i6", "i7"], "bob": ["i8"], "cem": ["i9"]}
            number = 1500
            for user, items in liked.items():
                for item in items:
                    stream.event(number, user, item, "like")
                    number += 1
            stream.flush()
            log.until(lambda found: total(found) == number)
            stream.feature("late", vectors["i6"] + 0.1 * chance.normal(size=DIMENSION), ["c9"])
            stream.flush()
            ann = Asker(stream, log, "ann")
            ann.until(lambda slate: "late" in slate, "the new item on ann's slate")
            for user in ("bob", "cem"):
                Asker(stream, log, user).slate()
        newest = {user: all_[-1] for user, all_ in rankings(log.records).items()}
        (late,) = [item for item in newest["ann"].items if item.item_id == "late"]
        (reason,) = [reason for reason in late.reasons if reason.kind == "new"]
        assert (reason.item_id, reason.text) == ("i6", "new, similar to Title i6")
        told = [
            (user, reason.item_id)
            for user in liked
            for i in newest[user].items
            for reason in i.reasons
            if reason.kind == "new"
        ]
        assert ("ann", "i6") in told
        assert all(evidence in liked[user] for user, evidence in told)
    finally:
        stream.close()
