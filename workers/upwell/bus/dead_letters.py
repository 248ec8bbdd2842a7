"""A bad record, with its original bytes, where and why it failed, and how it failed before, for `<topic>.dlq`."""

from __future__ import annotations

import time

import msgspec
from confluent_kafka import Message

from upwell.bus.headers import Headers
from upwell.bus.headers import headers as headers_of
from upwell.bus.topics import dead_letters
from upwell.bus.transactions import Output

REASON_BYTES = 1000
HISTORY = 20
"""Earlier failures that a dead letter tells of, the latest ones: a record that is redriven for ever does not grow for ever."""


class Failure(msgspec.Struct, omit_defaults=True):
    """One failure of a record, and when it was written back after it, Unix ms; 0: it was not."""

    ms: int
    step: str
    reason: str
    partition: int
    offset: int
    redriven_ms: int = 0


_failures = msgspec.json.Decoder(list[Failure])
_encode = msgspec.json.Encoder().encode


def dead_letter(message: Message, step: str, reason: str) -> Output:
    """The record as it came, with the headers of `headers`."""
    origin = (message.topic(), message.partition(), message.offset())
    return Output(
        dead_letters(message.topic()),
        message.key(),
        message.value(),
        headers(*origin, headers_of(message), step, reason),
    )


def headers(topic: str, partition: int, offset: int, own: Headers, step: str, reason: str) -> Headers:
    """`upwell-topic`, `-partition`, `-offset`, `-step`, `-reason`, `-attempts`, `-first-ms`, `-last-ms` (Unix ms), and of a
    record that was a dead letter before, `-history`: its earlier failures, oldest first, as JSON.

    The record's `own` headers stay, but for older ones of these names, which become the history."""
    before = dict(own)
    now = str(time.time_ns() // 1_000_000).encode()
    added = {
        "upwell-topic": topic.encode(),
        "upwell-partition": str(partition).encode(),
        "upwell-offset": str(offset).encode(),
        "upwell-step": step.encode(),
        "upwell-reason": reason.encode("utf-8", "replace")[:REASON_BYTES],
        "upwell-attempts": str(number(before.get("upwell-attempts")) + 1).encode(),
        "upwell-first-ms": before.get("upwell-first-ms") or now,
        "upwell-last-ms": now,
    }
    gone = {*added, "upwell-history", "upwell-redriven-ms"}
    if failures := _earlier(before):
        added["upwell-history"] = _encode(failures)
    return [(name, value) for name, value in own if name not in gone] + list(added.items())


def redriven(own: Headers) -> Headers:
    """A dead letter's headers for the way back: all that it has, and when it went."""
    now = str(time.time_ns() // 1_000_000).encode()
    return [(name, value) for name, value in own if name != "upwell-redriven-ms"] + [("upwell-redriven-ms", now)]


def history(raw: bytes | None) -> list[Failure]:
    """What an `upwell-history` header tells; nothing where it is not one of ours."""
    try:
        return _failures.decode(raw or b"[]")[-HISTORY:]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def number(raw: bytes | None) -> int:
    """A header's number. Anybody can write one: what is not plausible counts as 0."""
    return int(raw) if raw and raw.isdigit() and len(raw) < 16 else 0


def _earlier(before: dict[str, bytes | None]) -> list[Failure]:
    """Failures before this one, of a record that carries a dead letter's headers."""
    reason = before.get("upwell-reason")
    if reason is None:
        return []
    last = Failure(
        number(before.get("upwell-last-ms")),
        text(before.get("upwell-step")),
        text(reason)[:REASON_BYTES],
        number(before.get("upwell-partition")),
        number(before.get("upwell-offset")),
        number(before.get("upwell-redriven-ms")),
    )
    return [*history(before.get("upwell-history")), last][-HISTORY:]


def text(raw: bytes | None) -> str:
    """A header as text."""
    return (raw or b"").decode("utf-8", "replace")
