"""Headers of a consumed record, read in the one way that foreign producers cannot break."""

from __future__ import annotations

from confluent_kafka import Message

Headers = list[tuple[str, bytes | None]]


def headers(message: Message) -> Headers:
    """All headers; none where a name is not UTF-8.

    confluent-kafka 2.16 raises on such a name, and a second look at the same message would crash the process: they are
    taken off it.
    """
    try:
        return list(message.headers() or [])
    except SystemError:
        message.set_headers([])
        return []


def trace(message: Message) -> list[tuple[str, bytes | None]] | None:
    """The W3C trace context that an output caused by this record carries on; None where there is none."""
    return [(name, value) for name, value in headers(message) if name == "traceparent" and value] or None
