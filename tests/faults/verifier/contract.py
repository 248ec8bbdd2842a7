"""Which records of the inputs are valid, by the words of `schemas/`, as far as the harness's stream goes."""

from __future__ import annotations

import json
from typing import Any

from faults.verifier.records import Record

WEIGHTS = {
    "impression": 0.0, "view": 0.3, "click": 1.0, "like": 2.0, "dislike": -2.0, "add_to_cart": 2.0, "purchase": 3.0,
    "rating": 1.0, "dismiss": -1.0, "share": 2.0, "play": 1.0,
}  # fmt: skip
"""What an event of each type counts, as `events.weights` is documented."""
NEUTRAL, SCALE, STRONGEST = 2.5, 2.5, 2.0
"""A rating counts (value - NEUTRAL) / SCALE, at most STRONGEST up or down."""
FUTURE_MS = 86_400_000
REQUEST = "rank_request"


def event(record: Record) -> dict[str, Any] | None:
    """An interaction or a rank request; None where the record breaks the contract."""
    found = _object(record)
    if found is None:
        return None
    user, kind, item = found.get("user_id"), found.get("type"), found.get("item_id")
    if not _id(user) or record.key != user.encode() or not _id(found.get("event_id")):
        return None
    if not _time(found.get("ts"), record.time):
        return None
    if kind == REQUEST:
        return found
    if kind not in WEIGHTS or not _id(item):
        return None
    if kind == "rating" and not isinstance(found.get("value"), int | float):
        return None
    return found


def weight(event: dict[str, Any]) -> float:
    """What the event adds of its item's vector, before its age."""
    found = WEIGHTS[event["type"]]
    if event["type"] == "rating":
        found *= max(-STRONGEST, min(STRONGEST, (event["value"] - NEUTRAL) / SCALE))
    return found


def item(record: Record) -> dict[str, Any] | None:
    """An item's upsert or deletion (`op`); None where the record breaks the contract."""
    if record.value is None:
        return None if record.key is None else {"item_id": record.key.decode(), "op": "delete"}
    found = _object(record)
    if found is None or not _id(found.get("item_id")):
        return None
    if record.key is not None and record.key != found["item_id"].encode():
        return None
    op = found.setdefault("op", "upsert")
    if op == "upsert" and not (found.get("title") or found.get("description")):
        return None
    return found if op in {"upsert", "delete"} else None


def request(record: Record) -> dict[str, Any] | None:
    """A request for content; None where the record breaks the contract."""
    found = _object(record)
    if found is None or not _id(found.get("request_id")) or not _id(found.get("user_id")):
        return None
    if record.key is not None and record.key != found["user_id"].encode():
        return None
    valid = _time(found.get("ts"), record.time) and found.get("type", "content") == "content"
    return found if valid and found.get("format", "text") == "text" else None


def _object(record: Record) -> dict[str, Any] | None:
    try:
        found = json.loads(record.value or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _id(found: object) -> bool:
    return isinstance(found, str) and 0 < len(found) <= 256 and found.isprintable()


def _time(found: object, logged: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 < found <= logged + FUTURE_MS
