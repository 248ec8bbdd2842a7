"""What is new, on the real broker and database: an item that comes while the worker runs gets its first impressions."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from confluent_kafka import Message

from stream import DIMENSION, Stream, rankings, send_random, total
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
