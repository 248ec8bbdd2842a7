"""The second look at facts: what they hold passes, what they do not is named, whatever the first check says."""

from __future__ import annotations

import pytest

from upwell.content.prompt import Facts, facts_of
from upwell.content.template import template
from upwell.evaluation.content_facts import gazetteer, planted, unsupported

ATTRIBUTES = {"year": 1979, "director": "Ridley Scott", "cast": ["Sigourney Weaver", "Tom Skerritt"], "runtime": 117}
ALIEN = facts_of("Alien", ["Horror", "Sci-Fi"], ATTRIBUTES)
KNOWN = gazetteer(
    [
        ("Alien", ["Horror", "Sci-Fi"], ATTRIBUTES),
        ("Usual Suspects, The (1995)", ["Crime", "Thriller"], {"director": "Bryan Singer"}),
        ("If (1968)", ["Drama"], {"cast": ["Malcolm McDowell"]}),
        ("Heat (1995)", ["War"], {"director": "Michael Mann"}),
    ],
    ["the heat of the day"],
)


@pytest.mark.parametrize(
    "text",
    [
        "Alien is Ridley Scott's 1979 take on horror and sci-fi, picked for you because of Jaws.",
        "If you liked Jaws, try Alien, a horror film with Sigourney Weaver and Tom Skerritt.",
        "Going by Jaws, ALIEN should suit you. It runs 117 minutes.",
        "“Alien” was directed by Ridley Scott; two kinds meet in it: horror and sci-fi.",
        "What to try after Jaws? Ridley Scott’s Alien.",
    ],
)
def test_what_the_facts_hold_passes(text):
    assert unsupported(text, ALIEN, ["Jaws"], ["because you liked Jaws"], KNOWN) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("You liked Jaws, so try Alien from 1980.", "number: 1980"),
        ("Alien runs seventeen or ninety minutes.", "number: ninety"),
        ("Alien is by James Cameron.", "name: James"),
        ("Alien goes well with The Usual Suspects.", "title: The Usual Suspects"),
        ("The Usual Suspects goes well with Alien.", "title: The Usual Suspects"),
        ("Bryan Singer made Alien.", "name: Bryan Singer"),
        ("McDowell is great in Alien.", "name: McDowell"),
        ("Alien is a thriller.", "kind: thriller"),
        ("Alien was directed by Sigourney Weaver.", "role: directed by sigourney weaver"),
        ("Alien, starring Ridley Scott.", "role: starring ridley scott"),
    ],
)
def test_what_they_do_not_hold_is_named(text, found):
    assert found in unsupported(text, ALIEN, ["Jaws"], (), KNOWN)


def test_a_title_that_is_an_everyday_word_is_no_name_at_the_beginning():
    assert unsupported("Heat is what Alien brings.", ALIEN, (), (), KNOWN) == []
    assert unsupported("Of all there is, Heat is what Alien brings.", ALIEN, (), (), KNOWN) == ["name: Heat"]


def test_templates_pass():
    for because in ([], ["Jaws"], ["Jaws", "Heat"]):
        assert unsupported(template(ALIEN, because), ALIEN, because, (), KNOWN) == []


def test_words_of_the_description_may_be_said():
    pig = Facts("Pig", None, ["Animals"], {}, "A pig from Denmark, drawn by Karl.")
    assert unsupported("Pig comes from Denmark.", pig, (), (), KNOWN) == []
    assert unsupported("Pig comes from Norway.", pig, (), (), KNOWN) == ["name: Norway"]


def test_planted_inventions_are_found():
    donor = facts_of("Heat", ["War"], {"year": 1995, "director": "Michael Mann", "cast": ["Al Pacino"]})
    text = "You liked Jaws, so try Alien (1979), a horror film by Ridley Scott."
    changed = planted(text, ALIEN, ["Jaws"], donor)
    assert len(changed) == 4
    for each in changed:
        assert unsupported(each, ALIEN, ["Jaws"], (), KNOWN), each
    assert planted(text, ALIEN, ["Jaws"], ALIEN) == []
