"""A bad record, with its original bytes and where and why it failed, for `<topic>.dlq`."""

from __future__ import annotations

import time

from confluent_kafka import Message

from upwell.bus.consumer import Output
from upwell.bus.topics import dead_letters

REASON_BYTES = 1000


def dead_letter(message: Message, step: str, reason: str) -> Output:
    """The record as it came; headers `upwell-topic`, `-partition`, `-offset`, `-step`, `-reason`, `-attempts`,
    `-first-ms`, `-last-ms` (Unix ms) say the rest. The record's own headers stay, but for older ones of these names."""
    own = dict(message.headers() or [])
    now = str(time.time_ns() // 1_000_000).encode()
    attempts = int(own.get("upwell-attempts", b"0")) + 1
    added = {
        "upwell-topic": message.topic().encode(),
        "upwell-partition": str(message.partition()).encode(),
        "upwell-offset": str(message.offset()).encode(),
        "upwell-step": step.encode(),
        "upwell-reason": reason.encode("utf-8", "replace")[:REASON_BYTES],
        "upwell-attempts": str(attempts).encode(),
        "upwell-first-ms": own.get("upwell-first-ms", now),
        "upwell-last-ms": now,
    }
    kept = [(name, value) for name, value in message.headers() or [] if name not in added]
    return Output(dead_letters(message.topic()), message.key(), message.value(), kept + list(added.items()))
