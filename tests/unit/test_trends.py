"""Counting per key and window: exact under re-delivery, crashes in between and other incarnations of the log."""

from __future__ import annotations

import math
import ssl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.bus.errors import Inconsistent
from upwell.events.contracts import CategoryCount, ItemCount, Statistics, Trend
from upwell.ranking import trend
from upwell.settings import ConfigError, Kafka
from upwell.trends.counts import STATE_VERSION, Changes, Counts, mark_key
from upwell.trends.transport import Fetched, broker, credentials

HOUR = 3_600_000
DAY = 24 * HOUR


def record(*items: ItemCount, categories: tuple[CategoryCount, ...] = ()) -> Statistics:
    return Statistics(0, list(items), list(categories), 0)


def counts(store: dict[bytes, bytes], topic_id: str = "log-1", keep: int = 10, grace_s: float = 0) -> Counts:
    found = Counts(store, 0, topic_id, DAY, keep, grace_s)
    found.restore(list(store))
    return found


def store_changes(store: dict[bytes, bytes], changes: Changes) -> None:
    for key, value in changes.stored.items():
        if value is None:
            store.pop(key, None)
        else:
            store[key] = value


def latest(published: list[Trend]) -> dict[tuple[str, int], Trend]:
    """What an idempotent reader holds."""
    held: dict[tuple[str, int], Trend] = {}
    for found in published:
        before = held.get((found.key, found.window_start))
        if before is None or before.sequence < found.sequence:
            held[found.key, found.window_start] = found
        elif before.sequence == found.sequence:
            assert (before.events, before.weight) == (found.events, found.weight)
    return held


def test_counts_of_a_newer_release_are_refused() -> None:
    store: dict[bytes, bytes] = {}
    store_changes(store, counts(store).apply([(1, record(ItemCount("a", 0, 1, 1.0)))]))
    # Marks of before versions were written are of version 1.
    store[mark_key(0)] = msgspec.msgpack.encode(["log-1", 0, 0, 0])
    assert len(counts(store)) == 1
    store[mark_key(0)] = msgspec.msgpack.encode(["log-1", 0, 0, 0, STATE_VERSION + 1, "what it knows more"])
    with pytest.raises(Inconsistent, match="newer release"):
        counts(store)


def test_hours_are_coarsened_to_days_and_coalesced() -> None:
    store: dict[bytes, bytes] = {}
    changes = counts(store).apply(
        [
            (3, record(ItemCount("a", 0, 2, 1.5), ItemCount("a", 5 * HOUR, 1, 1.0))),
            (7, record(ItemCount("a", DAY, 1, 1.0), categories=(CategoryCount("horror", HOUR, 4, -2.0),))),
        ]
    )
    found = latest(changes.trends)
    assert len(changes.trends) == len(found) == 3
    first = found["item:a", 0]
    assert (first.events, first.weight, first.sequence, first.window_end, first.kind) == (3, 2.5, 1, DAY, "item")
    assert found["item:a", DAY].score == trend.score(1.0, 2.5)
    horror = found["category:horror", 0]
    assert (horror.kind, horror.events, horror.weight) == ("category", 4, -2.0)


def test_a_redelivered_record_is_published_again_but_not_counted_again() -> None:
    store: dict[bytes, bytes] = {}
    batch = [(1, record(ItemCount("a", 0, 2, 2.0)))]
    once = counts(store).apply(batch)
    store_changes(store, once)
    again = counts(store).apply(batch)
    assert again.trends == once.trends
    assert not again.stored


def test_a_changed_count_has_a_larger_sequence() -> None:
    store: dict[bytes, bytes] = {}
    held = counts(store)
    for offset in range(3):
        changes = held.apply([(offset, record(ItemCount("a", 0, 1, 1.0)))])
        store_changes(store, changes)
        assert [(found.sequence, found.events) for found in changes.trends] == [(offset + 1, offset + 1)]


@given(
    deltas=st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(1, 5)), max_size=4), max_size=12
    ),
    data=st.data(),
)
def test_counts_are_exact_whatever_a_crash_stored(
    deltas: list[list[tuple[str, int, int]]], data: st.DataObject
) -> None:
    """A crash keeps some keys of a batch and loses others; the batch comes again, split differently."""
    log = [
        (offset * 2, record(*(ItemCount(item, day * DAY, events, float(events)) for item, day, events in found)))
        for offset, found in enumerate(deltas)
    ]
    expected: dict[tuple[str, int], int] = {}
    for found in deltas:
        for item, day, events in found:
            expected[f"item:{item}", day * DAY] = expected.get((f"item:{item}", day * DAY), 0) + events
    store: dict[bytes, bytes] = {}
    published: list[Trend] = []
    held = counts(store)
    position = 0
    crashes = 0
    while position < len(log):
        end = data.draw(st.integers(position + 1, len(log)))
        changes = held.apply(log[position:end])
        if crashes < 5 and data.draw(st.booleans()):
            crashes += 1
            kept = data.draw(st.integers(0, len(changes.stored)))
            store_changes(store, Changes(dict(list(changes.stored.items())[:kept])))
            if kept == len(changes.stored):
                # All stored, publication begun.
                published += changes.trends[: data.draw(st.integers(0, len(changes.trends)))]
            held = counts(store)
            continue
        store_changes(store, changes)
        published += changes.trends
        position = end
    assert {found: one.events for found, one in latest(published).items()} == expected


def test_offsets_of_a_recreated_topic_mean_nothing() -> None:
    store: dict[bytes, bytes] = {}
    store_changes(
        store, counts(store, "log-1").apply([(100, record(ItemCount("a", 0, 1, 1.0), ItemCount("b", 0, 1, 1.0)))])
    )
    fresh = counts(store, "log-2")
    store_changes(store, fresh.apply([(0, record(ItemCount("a", 0, 1, 1.0)))]))
    restarted = counts(store, "log-2")
    changes = restarted.apply([(0, record(ItemCount("a", 0, 1, 1.0))), (1, record(ItemCount("b", 0, 1, 1.0)))])
    assert {found.key: (found.events, found.sequence) for found in changes.trends} == {
        "item:a": (2, 2),
        "item:b": (2, 2),
    }


def test_windows_expire_with_event_time_after_the_grace() -> None:
    store: dict[bytes, bytes] = {}
    held = counts(store, keep=2, grace_s=60)
    store_changes(store, held.apply([(0, record(ItemCount("a", 0, 1, 1.0)))], now=0))
    store_changes(store, held.apply([(1, record(ItemCount("a", 5 * DAY, 1, 1.0)))], now=10))
    assert len(held) == 2  # out of date for 0 s: a partition that lags behind still counts
    late = held.apply([(2, record(ItemCount("b", DAY, 1, 1.0)))], now=69)
    store_changes(store, late)
    assert (late.late, len(held)) == (0, 3)
    store_changes(store, held.apply([(3, record(ItemCount("a", 5 * DAY, 1, 1.0)))], now=71))
    assert len(held) == 1
    assert len(store) == 2  # the count and the mark
    too_late = held.apply([(4, record(ItemCount("b", DAY, 1, 1.0)))], now=72)
    assert (too_late.late, too_late.trends, too_late.stored) == (1, [], {})
    assert counts(store, keep=2, grace_s=60).apply([(4, record(ItemCount("b", DAY, 1, 1.0)))], now=0).late == 1


def test_the_mark_is_written_last() -> None:
    """Recovery waits for the changelog's last record: it must be one that compaction never removes."""
    held = counts({}, keep=1)
    held.apply([(0, record(ItemCount("a", 0, 1, 1.0)))])
    changes = held.apply([(1, record(ItemCount("a", 9 * DAY, 1, 1.0)))])
    assert list(changes.stored)[-1] == mark_key(0)
    assert None in changes.stored.values()


def test_the_score_is_in_standard_deviations() -> None:
    assert trend.score(10, 10) == 0
    assert trend.score(20, 12, bias=4) == 2
    assert trend.score(3, 1) < trend.score(300, 100)
    assert trend.score(0, 12, bias=4) == -3
    assert trend.score(4, -50) == trend.score(4, 0) == 4 / math.sqrt(trend.BIAS)


def test_windows_are_aligned_also_before_the_epoch() -> None:
    assert trend.window_of(DAY + 1, DAY) == DAY
    assert trend.window_of(-1, DAY) == -DAY


def test_bootstrap_servers_become_brokers() -> None:
    assert [str(url) for url in broker(Kafka(bootstrap_servers="a:1, b:2"))] == ["kafka://a:1", "kafka://b:2"]


def test_security_options_reach_aiokafka() -> None:
    assert credentials(Kafka()) is None
    found = credentials(
        Kafka(
            options={
                "security.protocol": "sasl_ssl",
                "sasl.mechanisms": "SCRAM-SHA-512",
                "sasl.username": "me",
                "sasl.password": "secret",
                "enable.ssl.certificate.verification": "false",
            }
        )
    )
    assert found is not None
    assert (found.protocol.value, found.mechanism.value, found.username, found.password) == (
        "SASL_SSL",
        "SCRAM-SHA-512",
        "me",
        "secret",
    )
    assert found.ssl_context.verify_mode == ssl.CERT_NONE
    tls = credentials(Kafka(options={"security.protocol": "SSL"}))
    assert tls is not None
    assert tls.context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "options", [{"security.protocol": "magic"}, {"security.protocol": "sasl_ssl", "sasl.mechanism": "GSSAPI"}]
)
def test_what_aiokafka_cannot_do_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.options"):
        credentials(Kafka(options=options))


def test_nothing_is_missing_where_records_come_as_they_were_fetched() -> None:
    fetched = Fetched()
    fetched.hand_over([3, 4, 6])  # 5 is the marker of a transaction
    fetched.hand_over([8, 9])

    assert fetched.first_missing([3, 4, 6, 8], until=0) is None
    assert fetched.first_missing([9], until=9) is None
    assert fetched.data == 9


def test_a_record_that_was_dropped_on_the_way_is_missing_until_it_comes() -> None:
    fetched = Fetched()
    fetched.hand_over([3, 4, 6])
    fetched.hand_over([8, 9])

    assert fetched.first_missing([3, 8, 9], until=0) == 4
    # 3 is counted; what follows in hand is of before the seek back.
    assert fetched.first_missing([9], until=4) == 4
    fetched.hand_over([4, 6, 8])
    assert fetched.first_missing([9], until=4) == 4
    assert fetched.first_missing([4, 6, 8], until=4) is None
    fetched.hand_over([9, 11])
    assert fetched.first_missing([9, 11], until=9) is None
    assert fetched.data == 11


def test_records_that_come_twice_are_not_missing() -> None:
    fetched = Fetched()
    fetched.hand_over([3, 4])

    assert fetched.first_missing([3, 3, 4, 3], until=4) is None
