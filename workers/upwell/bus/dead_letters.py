"""A bad record, with its original bytes and where and why it failed, for `<topic>.dlq`."""

from __future__ import annotations

import time

from confluent_kafka import Message

from upwell.bus.headers import Headers
from upwell.bus.headers import headers as headers_of
from upwell.bus.topics import dead_letters
from upwell.bus.transactions import Output

REASON_BYTES = 1000


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
    """`upwell-topic`, `-partition`, `-offset`, `-step`, `-reason`, `-attempts`, `-first-ms`, `-last-ms` (Unix ms).

    The record's `own` headers stay, but for older ones of these names."""
    before = dict(own)
    now = str(time.time_ns() // 1_000_000).encode()
    tried = before.get("upwell-attempts") or b""
    # Anybody can write this header: only a plausible number is taken on.
    attempts = int(tried) + 1 if tried.isdigit() and len(tried) < 10 else 1
    added = {
        "upwell-topic": topic.encode(),
        "upwell-partition": str(partition).encode(),
        "upwell-offset": str(offset).encode(),
        "upwell-step": step.encode(),
        "upwell-reason": reason.encode("utf-8", "replace")[:REASON_BYTES],
        "upwell-attempts": str(attempts).encode(),
        "upwell-first-ms": before.get("upwell-first-ms") or now,
        "upwell-last-ms": now,
    }
    return [(name, value) for name, value in own if name not in added] + list(added.items())
