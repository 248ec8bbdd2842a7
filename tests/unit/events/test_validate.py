"""Every rule of input records, and that garbage of any kind ends as `InvalidRecord` with a reason, never otherwise."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.events import validate
from upwell.events.codec import encode
from upwell.events.contracts import ContentTrigger, Interaction, Item, Request
from upwell.events.validate import InvalidRecord, Rules
from upwell.settings import Settings

RULES = Rules.of(Settings())
NOW = time.time_ns() // 1_000_000
LATEST = RULES.latest()
READERS = [validate.item, validate.interaction, validate.request]

CLICK = {"event_id": "e1", "user_id": "u1", "type": "click", "ts": NOW, "item_id": "i1"}
FILM = {"item_id": "i1", "title": "Alien (1979)", "categories": ["Horror"], "attributes": {"director": "Ridley Scott"}}
WISH = {"request_id": "r1", "user_id": "u1", "ts": NOW}


def interaction(key: bytes | None = b"u1", **changes: object) -> Interaction:
    return validate.interaction(key, raw(CLICK, changes), RULES, LATEST)


def item(key: bytes | None = b"i1", **changes: object) -> Item:
    return validate.item(key, raw(FILM, changes), RULES, LATEST)


def request(key: bytes | None = b"u1", **changes: object) -> Request:
    return validate.request(key, raw(WISH, changes), RULES, LATEST)


def raw(valid: dict, changes: dict) -> bytes:
    return json.dumps({name: value for name, value in (valid | changes).items() if value != "MISSING"}).encode()


def test_valid_records_pass_unchanged() -> None:
    assert interaction() == Interaction("e1", "u1", "click", NOW, "i1")
    assert interaction(type="rating", value=4).value == 4.0
    assert interaction(type="rank_request", item_id=None).item_id is None
    assert interaction(context={"page": {"name": "home", "tags": ["a", 1, 2.5, None, True]}}, position=0).position == 0
    assert item().title == "Alien (1979)"
    assert item(key=None, description="two\nlines\tand a tab\r\n", ts=NOW).ts == NOW
    assert item(op="delete", title="").op == "delete"
    assert item(media=[{"kind": "image", "uri": "https://example.org/a.png"}]).media[0].uri
    assert request(language="pt-BR", item_id="i1").item_id == "i1"
    assert request(text_kind="answer", question="Is it loud?").question == "Is it loud?"
    assert request(text_kind="summary", reviews=["Loud.", ""]).reviews == ["Loud.", ""]


def test_a_null_value_deletes_the_item_of_its_key() -> None:
    assert validate.item("é/1".encode(), None, RULES, LATEST) == Item(item_id="é/1", op="delete")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": "MISSING"}, "missing required field `user_id`"),
        ({"user_id": 7}, "Expected `str`, got `int`"),
        ({"user_id": ""}, "user_id has 0 characters"),
        ({"event_id": "x" * 257}, "event_id has 257 characters"),
        ({"event_id": "a\x00b"}, "event_id holds the character U\\+0000"),
        ({"item_id": "a\nb"}, "item_id holds the character U\\+000A"),
        ({"item_id": "a\ud800"}, "malformed|truncated|surrogate|character"),
        ({"item_id": None}, "item_id is missing: click"),
        ({"ts": 0}, "ts 0 is not a time"),
        ({"ts": -5}, "ts -5 is not a time"),
        ({"ts": NOW + 10 * 86_400_000}, "in the future"),
        ({"ts": 10**30}, "in the future"),
        ({"ts": "yesterday"}, "Expected `int`"),
        ({"ts": 1.5}, "Expected `int`"),
        ({"value": 10**30}, "value 1e"),
        ({"value": -1.1e9}, "is not a number within"),
        ({"type": "rating"}, "value is missing"),
        ({"type": "teleport"}, "type 'teleport' has no weight"),
        ({"type": "erase"}, "not supported by this release"),
        ({"user_id": "u2"}, "is not its user_id"),
        ({"session_id": ""}, "session_id has 0"),
        ({"ranking_id": "\x7f"}, "ranking_id holds"),
        ({"content_id": "c" * 300}, "content_id has 300"),
        ({"position": -1}, "position -1"),
        ({"position": 10**30}, "position 1000"),
        ({"context": {"a": {"b": {"c": {"d": {"e": 1}}}}}}, "nested deeper than 4"),
        ({"context": {"a": [[[[1]]]]}}, "nested deeper than 4"),
        ({"context": {str(n): n for n in range(65)}}, "65 keys"),
        ({"context": {"a": "x" * 70_000}}, "context has 70000 characters"),
        ({"context": {str(n): "x" * 2_000 for n in range(60)}}, "context is 12"),
        ({"context": {"a": "x\x00"}}, "context holds the character U\\+0000"),
        ({"context": {"a\x00": 1}}, "context holds the character U\\+0000"),
        ({"context": {"a": 2**63}}, "beyond 64 bits"),
    ],
)
def test_an_invalid_interaction_is_refused_with_its_reason(changes: dict, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        interaction(**changes)


def test_an_interaction_needs_the_user_as_key() -> None:
    with pytest.raises(InvalidRecord, match="has no key"):
        interaction(key=None)
    with pytest.raises(InvalidRecord, match="null value"):
        validate.interaction(b"u1", None, RULES, LATEST)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"item_id": "MISSING"}, "missing required field `item_id`"),
        ({"item_id": "i2"}, "is not its item_id"),
        ({"op": "destroy"}, "neither upsert nor delete"),
        ({"title": ""}, "neither title nor description"),
        ({"title": " \n"}, "neither title nor description"),
        ({"title": "a\x00b"}, "title holds the character U\\+0000"),
        ({"description": "bell \x07"}, "description holds the character U\\+0007"),
        ({"title": "t" * 1001}, "title has 1001"),
        ({"description": "d" * 20_001}, "description has 20001"),
        ({"categories": ["c"] * 65}, "65 categories"),
        ({"categories": ["c" * 129]}, "categories has 129"),
        ({"categories": "Horror"}, "Expected `array`"),
        ({"attributes": [1]}, "Expected `object`"),
        ({"attributes": {"n": 10**30}}, "beyond 64 bits|out of range"),
        ({"language": "e" * 40}, "language tag"),
        ({"ts": -1}, "not a time"),
        ({"media": [{"kind": "image"}]}, "either uri or data"),
        ({"media": [{"kind": "image", "uri": "a", "data": "aGk="}]}, "either uri or data"),
        ({"media": [{"kind": "image", "uri": "u" * 3000}]}, "media uri has 3000"),
        ({"media": [{"kind": "image", "uri": "u"}] * 17}, "17 pieces"),
    ],
)
def test_an_invalid_item_is_refused_with_its_reason(changes: dict, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        item(**changes)


@pytest.mark.parametrize("key", [None, b"\xff\xfe", b"", b"a\x00"])
def test_a_deletion_needs_a_valid_key(key: bytes | None) -> None:
    with pytest.raises(InvalidRecord):
        validate.item(key, None, RULES, LATEST)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "rank_request"}, "only requests for content"),
        ({"format": "opera"}, "format 'opera' is not offered"),
        ({"user_id": "u2"}, "is not its user_id"),
        ({"item_id": ""}, "item_id has 0"),
        ({"ts": 0}, "not a time"),
        ({"request_id": "MISSING"}, "missing required field"),
        (
            {"text_kind": "poem"},
            "text_kind 'poem' is not offered: answer, description, recommendation, subject, summary",
        ),
        ({"text_kind": "answer"}, "text_kind answer needs a question"),
        ({"text_kind": "answer", "question": " \n"}, "text_kind answer needs a question"),
        ({"text_kind": "answer", "question": "Why? " * 61}, "question has 305 characters: at most 300"),
        ({"text_kind": "answer", "question": "Why\x00?"}, "question holds the character U\\+0000"),
        ({"text_kind": "subject", "question": "Why?"}, "text_kind subject takes no question"),
        ({"text_kind": "summary"}, "text_kind summary needs reviews"),
        ({"text_kind": "summary", "reviews": "Fine."}, "Expected `array`"),
        ({"text_kind": "summary", "reviews": ["Fine."] * 7}, "7 reviews: at most 6"),
        ({"text_kind": "summary", "reviews": ["x" * 2_001]}, "a review has 2001 characters"),
        ({"reviews": ["Fine."]}, "text_kind recommendation takes no reviews"),
    ],
)
def test_an_invalid_request_is_refused_with_its_reason(changes: dict, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        request(**changes)


def test_a_trigger_of_more_evidence_than_texts_choose_among_is_refused() -> None:
    """Texts tell pairs of it: those of one record of 1 MB would fill the memory."""
    made = ContentTrigger("t", "head_changed", "cause", "u", "i", 1, because=["a"] * 17)
    with pytest.raises(InvalidRecord, match=r"^17 items in because: at most 16$"):
        validate.trigger(b"u", encode(made), RULES)
    made.because.pop()
    assert validate.trigger(b"u", encode(made), RULES) == made


@pytest.mark.parametrize("read", READERS)
def test_an_oversized_record_is_refused_before_it_is_read(read: object) -> None:
    with pytest.raises(InvalidRecord, match=r"kafka\.max_record_bytes allows") as refused:
        read(b"u1", b"x" * (5 * 1024 * 1024), RULES, LATEST)  # type: ignore[operator]
    assert refused.value.step == "decode"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"null",
        b"7",
        b"\x00\x01\x02",
        b"[" * 100_000,
        b'{"item_id":"a","attributes":' + b'{"a":' * 5_000,
        b'{"item_id":"a","event_id":"a","user_id":"a","request_id":"a","type":"click","ts":1e400}',
        b'{"event_id":"a","user_id":"a","type":"click","item_id":"i","ts":1,"value":' + b"9" * 10_000 + b"}",
        b'{"item_id":"\xed\xa0\x80","user_id":"\xed\xa0\x80"}',
        b'{"item_id":"\\ud800","user_id":"\\udfff"}',
    ],
)
def test_known_traps_are_refused(read: object, garbage: bytes) -> None:
    with pytest.raises(InvalidRecord) as refused:
        read(b"a", garbage, RULES, LATEST)  # type: ignore[operator]
    assert str(refused.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**40)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("read", READERS)
@given(key=st.none() | st.binary(max_size=8), value=st.binary(max_size=64))
def test_random_bytes_raise_nothing_else(read: object, key: bytes | None, value: bytes) -> None:
    with pytest.raises(InvalidRecord):
        read(key, value, RULES, LATEST)  # type: ignore[operator]


@pytest.mark.parametrize(("read", "valid"), list(zip(READERS, [FILM, CLICK, WISH], strict=True)))
@given(data=st.data())
def test_what_passes_can_be_stored_and_published(read: object, valid: dict, data: st.DataObject) -> None:
    known = {
        **valid,
        "value": 1,
        "context": {},
        "description": "",
        "position": 1,
        "media": [],
        "language": "",
        "ts": NOW,
    }
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(known)), json_values, min_size=1, max_size=3))
    value = json.dumps(known | changed).encode("utf-8", "surrogatepass")
    key = str((known | changed).get("item_id" if "title" in valid else "user_id")).encode("utf-8", "surrogatepass")
    try:
        passed = read(key, value, RULES, LATEST)  # type: ignore[operator]
    except InvalidRecord:
        return
    assert b"\\u0000" not in encode(passed)
