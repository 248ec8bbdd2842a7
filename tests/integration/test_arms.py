"""Formats and framings are learned from feedback by content_id, once each, through crashes, and chosen for triggers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from stream import Stream, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import ContentTrigger, Statistics
from upwell.events.hashing import arm, content_id
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

FORMATS = ["text", "poster"]
FRAMINGS = ["similar", "recent"]
ARMS = [arm(format_, framing) for format_ in FORMATS for framing in FRAMINGS]


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    groups = {
        "kafka": {"batch_max_records": 50},
        "profiles": {"flush_ms": 100},
        "content": {"formats": FORMATS, "framings": FRAMINGS, "min_events": 1},
        "statistics": {"snapshot_s": 0.2},
    }
    made = Stream(stack, prefix, **groups)
    try:
        yield made
    finally:
        made.close()


def test_what_is_liked_is_what_new_users_get(stream: Stream) -> None:
    ids = stream.features(40)
    number = 0
    for turn in range(40):
        for name in ARMS:
            shown = content_id(f"t{turn}", name)
            stream.event(number, f"u{turn}", ids[turn], "impression", content_id=shown)
            number += 1
            if name == "poster-recent":
                stream.event(number, f"u{turn}", ids[turn], "like", content_id=shown)
                number += 1
    stream.event(number, "u0", ids[0], "like", content_id="somebody-elses.gif")
    number += 1
    stream.flush()
    with stream.worker("interactions") as worker, stream.reading(Topic.RANKINGS) as log:
        log.until(lambda found: total(found) >= number // 2)
        worker.kill()
    with stream.worker("interactions") as worker, stream.reading(Topic.RANKINGS) as log:
        log.until(lambda found: total(found) == number)
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(number,)])
        (stored,) = stream.rows("SELECT reactions FROM profiles WHERE user_id = 'u7'")[0]
        assert json.loads(bytes(stored)) == {name: [1, int(name == "poster-recent")] for name in ARMS}
        assert worker.stop() == 0
    counted: Counter[tuple[str, str]] = Counter()
    for record in stream.read(Topic.STATISTICS):
        for reaction in msgspec.json.decode(record.value(), type=Statistics).reactions:
            counted[reaction.arm, "shown"] += reaction.shown
            counted[reaction.arm, "liked"] += reaction.liked
    assert {key: count for key, count in counted.items() if count} == {
        **{(name, "shown"): 40 for name in ARMS}, ("poster-recent", "liked"): 40,
    }  # fmt: skip
    # A worker that starts from the snapshot knows it.
    seen = len(stream.read("content-triggers.normal"))
    for user in range(60):
        stream.event(number + user, f"new{user}", ids[user % 40])
    stream.flush()
    with stream.worker("interactions"):
        eventually(lambda: len(stream.read("content-triggers.normal")) >= seen + 60)
    triggers = [msgspec.json.decode(m.value(), type=ContentTrigger) for m in stream.read("content-triggers.normal")]
    fresh = [trigger for trigger in triggers if trigger.user_id.startswith("new")]
    assert Counter((trigger.format, trigger.framing) for trigger in fresh)["poster", "recent"] > 40
    assert all(trigger.because for trigger in fresh)
