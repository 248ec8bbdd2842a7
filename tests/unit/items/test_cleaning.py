"""Cleaning gives plain, normal, single-line text, whatever comes in, and gives it again from its own output."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.events.contracts import Item
from upwell.items.cleaning import clean_item, clean_text, encoder_text, quality


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Alien (1979)", "Alien (1979)"),
        ("  a \n\t b\u00a0c  ", "a b c"),
        ("Tom &amp; Jerry &eacute;t&#233;", "Tom & Jerry été"),
        ("<p>One</p><p>Two</p>", "One Two"),
        ("f<b>oo</b>", "foo"),
        ("a < b and c > d, I <3 it", "a < b and c > d, I <3 it"),
        ("before<script>alert('x')</script>after", "before after"),
        ("a<!-- hidden -->b", "a b"),
        ("<!DOCTYPE html>x", "x"),
        ("e\u0301te\u0301", "été"),
        ("zero\u200bwidth \u202eright to left\ufeff", "zero width right to left"),
        ("c1 \x85\x92 here", "c1 here"),
        ("&lt;b&gt; stays as text", "<b> stays as text"),
        ("<b></b>", ""),
        ("👩\u200d👧 stays joined", "👩\u200d👧 stays joined"),
    ],
)
def test_text_is_cleaned(raw: str, cleaned: str) -> None:
    assert clean_text(raw) == cleaned


@given(st.text(max_size=200))
def test_cleaned_text_is_plain_and_normal(raw: str) -> None:
    cleaned = clean_text(raw)
    assert cleaned == unicodedata.normalize("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(character) == "Cc" for character in cleaned)


@pytest.mark.timeout(60)  # a quadratic pattern would take hours
@pytest.mark.parametrize(
    "unit", ["<!", "<a ", "<!--", "&", "<a b='", "<script>", "</", "<a/", "<?", '<a "', "<style>x"]
)
def test_hostile_markup_takes_linear_time(unit: str) -> None:
    assert isinstance(clean_text(unit * 300_000), str)


def test_an_item_is_cleaned_in_every_text() -> None:
    item = Item(
        "i1", title="<i>Alien</i>", description="In&nbsp;space", categories=["Horror", " horror ", "", "Horror"],
        attributes={"cast": ["<b>Weaver</b>"], "deep": {"note": "a<br>b"}, "year": 1979},
    )  # fmt: skip
    cleaned = clean_item(item)
    assert (cleaned.title, cleaned.description, cleaned.categories) == ("Alien", "In space", ["Horror", "horror"])
    assert cleaned.attributes == {"cast": ["Weaver"], "deep": {"note": "a b"}, "year": 1979}


def test_the_encoder_reads_words_and_the_most_telling_first() -> None:
    attributes = {"imdb_id": "tt007", "director": "Ridley Scott", "cast": ["Weaver", "Holm"], "poster": "http://x/y.png",
                  "year": 1979, "votes": "12.5", "site": "https://a"}  # fmt: skip
    text = encoder_text("Alien (1979)", ["Horror", "Sci-Fi"], "In space no one can hear you.", attributes)
    assert (
        text == "Alien (1979). Horror, Sci-Fi. In space no one can hear you. cast: Weaver, Holm. director: Ridley Scott"
    )


def test_the_encoders_text_survives_the_store() -> None:
    attributes = {"b": "two", "a": ["one", 1]}
    stored = json.loads(json.dumps(attributes, sort_keys=True))
    assert encoder_text("t", ["c"], "", attributes) == encoder_text("t", ["c"], "", stored)


def test_quality_is_what_is_known() -> None:
    assert quality(Item("i", title="t")) == 0.5
    assert quality(Item("i", title="t", categories=["c"], attributes={"a": 1})) == 1.0
