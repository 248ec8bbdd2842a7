"""The fact check: what is in the facts passes, what is not is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.content.check import Limits, check
from upwell.content.language import detect
from upwell.content.prompt import Facts, facts_of
from upwell.content.template import LANGUAGES, template

ALIEN = facts_of(
    "Alien",
    ["Horror", "Sci-Fi"],
    {
        "year": 1979,
        "director": "Ridley Scott",
        "cast": ["Sigourney Weaver", "Tom Skerritt"],
        "runtime": 117,
        "country": "United States",
    },
)
LAMP = facts_of("Oak Desk Lamp X-30", ["Lighting"], {"brand": "Nordo", "price": "49.90"})


@pytest.mark.parametrize(
    "text",
    [
        "Alien is Ridley Scott's 1979 take on horror and sci-fi, picked for you because of Jaws.",
        "Liked Jaws? Try Alien (1979), a horror film with Sigourney Weaver.",
        "In 1979, Ridley Scott made Alien. It runs 117 minutes, and you enjoyed Jaws.",
        "Since you liked Jaws, ALIEN should suit you.",
        "Alien, with Tom Skerritt in the cast, goes to war with a family. You liked Jaws.",
        "“Alien” was made in the United States. It is here because you liked Jaws!",
    ],
)
def test_faithful_texts_pass(text):
    assert check(text, ALIEN, ["Jaws"]) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Since you liked Jaws, try Aliens, a horror film.", "item"),
        ("Since you liked Jaws, try this horror film by Ridley Scott.", "item"),
        ("Alien by James Cameron is a horror film, and you liked Jaws.", "name"),
        ("Alien is a horror film from 1986, and you liked Jaws.", "number"),
        ("Alien runs 17 minutes, and you liked Jaws.", "number"),
        ("Alien is a romantic comedy, and you liked Jaws.", "kind"),
        ("Alien is an action thriller from 1979, and you liked Jaws.", "kind"),
        ("Alien is a war film from 1979, and you liked Jaws.", "kind"),
        ("Alien, with 1979 in the cast, is for you: you liked Jaws.", "role"),
        ("Alien, a horror film by 1979, is for you: you liked Jaws.", "role"),
        ("Alien, with Ridley Scott in the cast, is for you: you liked Jaws.", "role"),
        ("Alien won an Oscar. You liked Jaws.", "name"),
        ("Alien is an award-winning film, and you liked Jaws.", "claim"),
        ('Alien, "the best there is", suits you: you liked Jaws.', "quote"),
        ("Alien, directed by Sigourney Weaver, is for you: you liked Jaws.", "role"),
        ("You liked Alien, so try Alien.", "reason"),
        ("Alien is popular right now.", "reason"),
        ("Weil dir Jaws gefallen hat und du das magst, ist Alien der Film für dich.", "language"),
        ("Alien is a action film from 1979, and you liked Jaws.", "form"),
        ("Alien is a horror horror from 1979, and you liked Jaws.", "repetition"),
        ("Alien, a horror film, is a mix of horror and sci-fi. You liked Jaws.", "repetition"),
        ("Alien is for you and for you, and Alien is for you and for you.", "repetition"),
        ("Alien is a film\x00 that you may like, as you liked Jaws.", "form"),
        ("Alien: see https://example.org for more, as you liked Jaws.", "form"),
        ("title: Alien. The reader liked Jaws.", "form"),
        ("Alien.", "length"),
        ("Alien is one to try. " * 40, "length"),
        ("Alien is a horror film with Sigourney Weaver and", "form"),
        ("Alien is a horror film, which you liked, and close to Jaws in spirit.", "reason"),
        ("Alien, with Tom Skerritt and Tom Skerritt, is one to try as you liked Jaws.", "repetition"),
        ("With Alien in mind, you might enjoy Alien, a horror film from 1979.", "repetition"),
    ],
)
def test_what_no_fact_holds_is_refused(text, kind):
    problems = check(text, ALIEN, ["Jaws"])
    assert problems
    assert kind in {problem.split(":")[0] for problem in problems}


def test_other_catalogues_are_checked_the_same_way():
    text = "More lighting? Oak Desk Lamp X-30 from Nordo deserves your time. The price is 49.90."
    assert check(text, LAMP, taste=["Lighting"]) == []
    assert check(text.replace("Nordo", "Ikea"), LAMP, taste=["Lighting"]) == ["name: Ikea"]
    assert check("Oak Desk Lamp X-30 is a film for you.", LAMP) == ["kind: film"]


def test_a_kind_may_be_told_again_as_the_reason():
    text = "More horror? Alien is a horror film by Ridley Scott."
    assert check(text, ALIEN, taste=["Horror"]) == []
    assert check(text, ALIEN) == ["repetition: horror again"]


def test_a_liked_item_has_to_be_given():
    assert check("You liked something like it, so try Alien.", ALIEN) == ["reason: no liked item was given"]


def test_limits_are_kept():
    text = "Alien is a horror film. You liked Jaws."
    assert check(text, ALIEN, ["Jaws"], limits=Limits(max_sentences=1)) == ["length: more than 1 sentences"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("This is the one that you should try with your friends", "en"),
        ("Das ist der Film für dich, weil du es magst", "de"),
        ("C'est le film que vous aimez avec une histoire", "fr"),
        ("Это фильм для вас", "ru"),
        ("Blade Runner", ""),
    ],
)
def test_languages_are_told_apart(text, language):
    assert detect(text) == language


WORDS = st.lists(st.sampled_from("Oak Red River Night of Summer 7 Blue Moon Street".split()), min_size=1, max_size=4)
FACTS = st.builds(
    Facts,
    title=WORDS.map(" ".join),
    year=st.none() | st.integers(1900, 2030),
    categories=st.lists(st.sampled_from(["Drama", "Kitchen", "RPG", "Sci-Fi"]), max_size=3, unique=True),
)


@given(
    facts=FACTS,
    because=st.lists(WORDS.map(" ".join), max_size=2),
    reason=st.sampled_from(["", "similar", "popular", "new"]),
    language=st.sampled_from(sorted(LANGUAGES)),
)
def test_the_template_always_tells_the_facts(facts, because, reason, language):
    text = template(facts, because, language, reason=reason)
    assert facts.title in text
    problems = check(text, facts, because, language, Limits(min_chars=1), reason=reason)
    # A title of repeated words may look like repetition or be found inside a liked one; the facts themselves hold.
    assert not {p.split(":")[0] for p in problems} & {"name", "number", "kind", "claim", "quote", "item", "language"}


@given(st.text(max_size=500))
def test_any_text_gets_an_answer(text):
    assert isinstance(check(text, ALIEN, ["Jaws"]), list)
