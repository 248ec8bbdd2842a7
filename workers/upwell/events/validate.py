"""Raw keys and values of input records in, contracts within their limits out, or `InvalidRecord` with the reason.

What passes can be stored in Postgres, encoded as UTF-8 and put into any output: no NUL, no lone surrogate, no number
beyond its type. Interactions take the short way: a few microseconds each.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

import msgspec

from upwell.events.codec import DecodeError, decode, decoder, encode
from upwell.events.contracts import (
    ContentTrigger,
    ControlType,
    Interaction,
    InteractionType,
    Item,
    Media,
    Request,
    TextKind,
)
from upwell.events.hashing import arm
from upwell.settings import Settings

T = TypeVar("T", bound=msgspec.Struct)

MAX_ID = 256
MAX_TITLE = 1_000
MAX_DESCRIPTION = 20_000
MAX_CATEGORIES = 64
MAX_CATEGORY = 128
MAX_LANGUAGE = 35
MAX_MEDIA = 16
MAX_URI = 2_048
MAX_KEYS = 64
MAX_DEPTH = 4
MAX_NESTED_BYTES = 65_536
MAX_VALUE = 1e9
MAX_QUESTION = 300
MAX_REVIEWS = 6
MAX_REVIEW = 2_000
MAX_EVIDENCE = 16
"""Items of a trigger's `because`: candidate texts tell every choice among them."""
INT64 = range(-(2**63), 2**63)

FORMATS = frozenset({"text", "poster", "speech", "clip"})
FRAMINGS = frozenset({"similar", "recent", "taste", "popular"})
ARMS = frozenset(arm(format_, framing) for format_ in FORMATS for framing in ("", *FRAMINGS))
"""Whatever feedback may be about; formats and framings that the settings do not name are counted too."""

_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Line ends and tabs are a text's own business, and cleaning takes what else is odd; these no store would take.
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class InvalidRecord(ValueError):
    """The record breaks its contract; the message says how. `step` is where it was found: `decode` or `validate`."""

    def __init__(self, reason: str, step: str = "validate") -> None:
        super().__init__(reason)
        self.step = step


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about valid records. Build it once."""

    max_record_bytes: int
    max_future_ms: int
    types: frozenset[str]
    """Interaction types that have a weight."""

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        return cls(
            settings.kafka.max_record_bytes,
            int(settings.events.max_future_s * 1000),
            frozenset(settings.events.weights),
        )

    def latest(self) -> int:
        """The latest event time, ms, that is valid now: ask once per batch."""
        return time.time_ns() // 1_000_000 + self.max_future_ms


def interaction(key: bytes | None, value: bytes | None, rules: Rules, latest: int) -> Interaction:
    """One record of `interactions`.

    Args:
        latest: `rules.latest()` at the beginning of the batch.

    Raises:
        InvalidRecord: with the reason.
    """
    if value is None:
        raise InvalidRecord("null value: the log of a user holds events only")
    if len(value) > rules.max_record_bytes:
        raise _oversized(value, rules)
    try:
        event: Interaction = _decode_interaction(value)
    except (ValueError, RecursionError) as error:
        raise _undecodable(error) from None
    user = event.user_id
    # The common case in four C calls; whatever is odd takes the long way and gets its reason there.
    if not (user.isprintable() and 0 < len(user) <= MAX_ID and event.event_id.isprintable()):
        _identifier("user_id", user)
    if not 0 < len(event.event_id) <= MAX_ID or not event.event_id.isprintable():
        _identifier("event_id", event.event_id)
    if key is None or key != user.encode():
        _key("user_id", user, key, required=True)
    if not 0 < event.ts <= latest:
        _time(event.ts, latest)
    item = event.item_id
    if event.type in rules.types:
        if item is None:
            raise InvalidRecord(f"item_id is missing: {event.type} is about an item")
    elif event.type == ControlType.ERASE:
        raise InvalidRecord("erase: erasure is not supported by this release; nothing was erased")
    elif event.type != ControlType.RANK_REQUEST:
        raise InvalidRecord(f"type {event.type[:64]!r} has no weight in events.weights")
    if item is not None and not (item.isprintable() and 0 < len(item) <= MAX_ID):
        _identifier("item_id", item)
    number = event.value
    if number is None:
        if event.type == InteractionType.RATING:
            raise InvalidRecord("value is missing: a rating needs one")
    elif not -MAX_VALUE <= number <= MAX_VALUE:
        raise InvalidRecord(f"value {number!r} is not a number within ±{MAX_VALUE:.0e}")
    if event.session_id is not None:
        _identifier("session_id", event.session_id)
    if event.ranking_id is not None:
        _identifier("ranking_id", event.ranking_id)
    if event.content_id is not None:
        _identifier("content_id", event.content_id)
    if event.position is not None and not 0 <= event.position < 2**31:
        raise InvalidRecord(f"position {event.position} is not within 0..{2**31 - 1}")
    if event.context is not None:
        _nested("context", event.context, len(value))
    return event


def item(key: bytes | None, value: bytes | None, rules: Rules, latest: int) -> Item:
    """One record of `items`. A null value is a deletion by key; `ts` 0 stands for a missing one.

    Raises:
        InvalidRecord: with the reason.
    """
    if value is None:
        if key is None:
            raise InvalidRecord("null value without a key: nothing says which item to delete")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise InvalidRecord("the key is not UTF-8", "decode") from None
        _identifier("the key", name)
        return Item(item_id=name, op="delete")
    if len(value) > rules.max_record_bytes:
        raise _oversized(value, rules)
    found = _decode(Item, value)
    _identifier("item_id", found.item_id)
    _key("item_id", found.item_id, key, required=False)
    if found.ts != 0:
        _time(found.ts, latest)
    if found.op == "delete":
        return found
    if found.op != "upsert":
        raise InvalidRecord(f"op {found.op[:64]!r} is neither upsert nor delete")
    _text("title", found.title, MAX_TITLE)
    _text("description", found.description, MAX_DESCRIPTION)
    if not (found.title.strip() or found.description.strip() or found.media):
        raise InvalidRecord("neither title nor description nor media: nothing says what the item is")
    _language(found.language)
    _categories("categories", found.categories)
    _nested("attributes", found.attributes, len(value))
    if len(found.media) > MAX_MEDIA:
        raise InvalidRecord(f"{len(found.media)} pieces of media: at most {MAX_MEDIA}")
    for piece in found.media:
        _media(piece)
    return found


def request(key: bytes | None, value: bytes | None, rules: Rules, latest: int) -> Request:
    """One record of `requests`.

    Raises:
        InvalidRecord: with the reason.
    """
    if value is None:
        raise InvalidRecord("null value: a request says what is wanted")
    if len(value) > rules.max_record_bytes:
        raise _oversized(value, rules)
    found = _decode(Request, value)
    _identifier("request_id", found.request_id)
    _identifier("user_id", found.user_id)
    _key("user_id", found.user_id, key, required=False)
    _time(found.ts, latest)
    if found.type != "content":
        raise InvalidRecord(f"type {found.type[:64]!r}: only requests for content are answered here")
    if found.format not in FORMATS:
        raise InvalidRecord(f"format {found.format[:64]!r} is not offered: {', '.join(sorted(FORMATS))}")
    if found.item_id is not None:
        _identifier("item_id", found.item_id)
    _language(found.language)
    _wanted(found.text_kind, found.question, found.reviews)
    return found


def trigger(key: bytes | None, value: bytes | None, rules: Rules) -> ContentTrigger:
    """One record of `content-triggers`: our own, but a topic is open to whoever may write to it.

    Raises:
        InvalidRecord: with the reason.
    """
    if value is None:
        raise InvalidRecord("null value: a trigger says what to write about")
    if len(value) > rules.max_record_bytes:
        raise _oversized(value, rules)
    found = _decode(ContentTrigger, value)
    _identifier("trigger_id", found.trigger_id)
    _identifier("user_id", found.user_id)
    _identifier("item_id", found.item_id)
    _identifier("kind", found.kind)
    _key("user_id", found.user_id, key, required=False)
    if len(found.because) > MAX_EVIDENCE:
        raise InvalidRecord(f"{len(found.because)} items in because: at most {MAX_EVIDENCE}")
    for because in found.because:
        _identifier("because", because)
    if found.framing and found.framing not in FRAMINGS:
        raise InvalidRecord(f"framing {found.framing[:64]!r} is not known: {', '.join(sorted(FRAMINGS))}")
    _categories("taste", found.taste)
    if found.format not in FORMATS:
        raise InvalidRecord(f"format {found.format[:64]!r} is not offered: {', '.join(sorted(FORMATS))}")
    _language(found.language)
    _wanted(found.text_kind, found.question, found.reviews)
    return found


_decode_interaction = decoder(Interaction).decode


def _decode(contract: type[T], value: bytes) -> T:
    try:
        return decode(contract, value)
    except (DecodeError, ValueError) as error:
        raise _undecodable(error) from None


def _undecodable(error: Exception) -> InvalidRecord:
    return InvalidRecord(str(error) or type(error).__name__, "decode")


def _oversized(value: bytes, rules: Rules) -> InvalidRecord:
    return InvalidRecord(f"{len(value)} bytes: kafka.max_record_bytes allows {rules.max_record_bytes}", "decode")


def _identifier(name: str, text: str) -> None:
    if not 0 < len(text) <= MAX_ID:
        raise InvalidRecord(f"{name} has {len(text)} characters: 1 to {MAX_ID} are allowed")
    if not text.isprintable() and (bad := _NOT_IN_IDS.search(text)):
        raise InvalidRecord(f"{name} holds the character {_name(bad)}, which no id may hold")


def _key(name: str, text: str, key: bytes | None, *, required: bool) -> None:
    if key is None:
        if required:
            raise InvalidRecord(f"the record has no key: it must be the {name}, which chooses the partition")
    elif key != text.encode():
        raise InvalidRecord(f"the record's key {key[:64]!r} is not its {name} {text[:64]!r}")


def _time(ts: int, latest: int) -> None:
    if ts <= 0:
        raise InvalidRecord(f"ts {ts} is not a time: milliseconds since 1970, above 0")
    if ts > latest:
        raise InvalidRecord(
            f"ts {ts if ts in INT64 else 'beyond 64 bits'} is further in the future than events.max_future_s allows"
        )


def _categories(field: str, names: list[str]) -> None:
    if len(names) > MAX_CATEGORIES:
        raise InvalidRecord(f"{len(names)} {field}: at most {MAX_CATEGORIES}")
    for name in names:
        _text(field, name, MAX_CATEGORY)


def _text(name: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidRecord(f"{name} has {len(text)} characters: at most {limit}")
    if not text.isprintable() and (bad := _NOT_IN_TEXT.search(text)):
        raise InvalidRecord(f"{name} holds the character {_name(bad)}, which no text may hold")


def _language(language: str) -> None:
    if len(language) > MAX_LANGUAGE or not language.isprintable():
        raise InvalidRecord("language is not a language tag such as `en` or `pt-BR`")


def _wanted(kind: str, question: str, reviews: list[str]) -> None:
    """Whether a text is asked for that there is, with what it needs and nothing that it does not take."""
    if kind not in set(TextKind):
        raise InvalidRecord(f"text_kind {kind[:64]!r} is not offered: {', '.join(sorted(TextKind))}")
    if kind == TextKind.ANSWER and not question.strip():
        raise InvalidRecord("text_kind answer needs a question")
    if kind == TextKind.SUMMARY and not any(review.strip() for review in reviews):
        raise InvalidRecord("text_kind summary needs reviews")
    for name, text, taken in (("question", question, TextKind.ANSWER), ("reviews", reviews, TextKind.SUMMARY)):
        if text and kind != taken:
            raise InvalidRecord(f"text_kind {kind} takes no {name}")
    _text("question", question, MAX_QUESTION)
    if len(reviews) > MAX_REVIEWS:
        raise InvalidRecord(f"{len(reviews)} reviews: at most {MAX_REVIEWS}")
    for review in reviews:
        _text("a review", review, MAX_REVIEW)


def _name(match: re.Match[str]) -> str:
    return f"U+{ord(match.group()):04X}"


def _media(piece: Media) -> None:
    if (piece.uri is None) == (piece.data is None):
        raise InvalidRecord("media: either uri or data")
    _identifier("media kind", piece.kind)
    if piece.mime is not None:
        _identifier("media mime", piece.mime)
    if piece.uri is not None:
        _text("media uri", piece.uri, MAX_URI)


def _nested(name: str, mapping: dict[str, Any], record_bytes: int) -> None:
    """Limits of free-form objects: depth, keys of each object, size as JSON, and what no store would take."""
    if not mapping:
        return
    _walk(name, mapping, MAX_DEPTH)
    if record_bytes > MAX_NESTED_BYTES and (size := len(encode(mapping))) > MAX_NESTED_BYTES:
        raise InvalidRecord(f"{name} is {size} bytes: at most {MAX_NESTED_BYTES}")


def _walk(name: str, value: Any, depth: int) -> None:
    if isinstance(value, str):
        _text(name, value, MAX_NESTED_BYTES)
    elif isinstance(value, dict):
        if depth == 0:
            raise InvalidRecord(f"{name} is nested deeper than {MAX_DEPTH}")
        if len(value) > MAX_KEYS:
            raise InvalidRecord(f"{name} has an object of {len(value)} keys: at most {MAX_KEYS}")
        for key, inner in value.items():
            _text(name, key, MAX_ID)
            _walk(name, inner, depth - 1)
    elif isinstance(value, list):
        if depth == 0:
            raise InvalidRecord(f"{name} is nested deeper than {MAX_DEPTH}")
        for inner in value:
            _walk(name, inner, depth - 1)
    elif isinstance(value, int):
        if value not in INT64:
            raise InvalidRecord(f"{name} holds a number beyond 64 bits")
    elif isinstance(value, float) and not isfinite(value):
        raise InvalidRecord(f"{name} holds a number that is not finite")
