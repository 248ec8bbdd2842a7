"""A dead letter's headers: what failed, and how it failed before."""

from __future__ import annotations

import json

from upwell.bus.dead_letters import HISTORY, headers, history, redriven
from upwell.bus.headers import Headers


def failed(own: Headers, reason: str, offset: int = 7) -> dict[str, bytes | None]:
    found = headers("items", 3, offset, own, "validate", reason)
    assert len(dict(found)) == len(found), "no header twice"
    return dict(found)


def test_a_first_failure_has_no_history_and_keeps_the_records_own_headers() -> None:
    found = failed([("traceparent", b"00-1-2-01"), ("x", None)], "no title")
    assert found["upwell-attempts"] == b"1"
    assert found["upwell-first-ms"] == found["upwell-last-ms"]
    assert (found["traceparent"], found["x"]) == (b"00-1-2-01", None)
    assert "upwell-history" not in found


def test_each_further_failure_tells_all_before_it_oldest_first() -> None:
    first = failed([], "no title", 7)
    second = failed(redriven(list(first.items())), "no title either", 20)
    third = failed(redriven(list(second.items())), "still none", 31)
    assert third["upwell-attempts"] == b"3"
    assert third["upwell-first-ms"] == first["upwell-first-ms"]
    assert third["upwell-reason"] == b"still none"
    assert "upwell-redriven-ms" not in third, "it has not been written back after this failure"
    told = json.loads(third["upwell-history"] or b"")
    assert [(one["reason"], one["step"], one["partition"], one["offset"]) for one in told] == [
        ("no title", "validate", 3, 7),
        ("no title either", "validate", 3, 20),
    ]
    assert all(one["redriven_ms"] >= one["ms"] for one in told)


def test_a_record_that_is_redriven_for_ever_does_not_grow_for_ever() -> None:
    own: Headers = []
    for number in range(3 * HISTORY):
        own = redriven(list(failed(own, f"{number} " + "x" * 5_000).items()))
    assert sum(len(value or b"") for _, value in own) < HISTORY * 1_200
    assert dict(own)["upwell-attempts"] == str(3 * HISTORY).encode()
    assert [one.reason.split()[0] for one in history(dict(own)["upwell-history"])] == [
        str(number) for number in range(2 * HISTORY - 1, 3 * HISTORY - 1)
    ]


def test_headers_that_a_stranger_wrote_break_nothing() -> None:
    forged: Headers = [
        ("upwell-attempts", b"-5"), ("upwell-first-ms", b""), ("upwell-history", b'[{"ms": "soon"}]'),
        ("upwell-reason", b"\xff\xfe"), ("upwell-offset", None), ("upwell-last-ms", b"9" * 40),
    ]  # fmt: skip
    found = failed(forged, "no title")
    assert found["upwell-attempts"] == b"1"
    (told,) = history(found["upwell-history"])
    assert (told.ms, told.offset, told.redriven_ms) == (0, 0, 0)
    assert history(b"[" * 100_000) == history(b"\xff") == history(None) == []
