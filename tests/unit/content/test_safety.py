"""Verdicts before publication: what the models' scores and the terms come to."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from upwell.content import safety
from upwell.content.kinds import Asked
from upwell.content.prompt import facts_of
from upwell.content.safety import PASSED, Limits, facts_verdict, own_words, picture_verdict, terms_in, text_verdict
from upwell.events.contracts import TextKind
from upwell.inference.safety import TextScore
from upwell.settings import ContentSettings

CLEAN = TextScore(0.02, flag=False)
TERMS = Limits(blocked=("casino", "get rich"), protected=("your religion",))


def test_docstring_examples():
    assert doctest.testmod(safety).failed == 0


@pytest.mark.parametrize(
    ("text", "score", "verdict"),
    [
        ("You liked Alien, so try Aliens.", CLEAN, PASSED),
        ("You liked Alien, so try Aliens.", None, PASSED),
        ("Nice.", TextScore(0.81, flag=False), "refused: profanity, probability 0.81"),
        ("Nice.", TextScore(float("nan"), flag=False), "refused: profanity"),
        ("Nice.", TextScore(0.1, flag=True), "refused: profanity, by the word list"),
        ("A night at the CASINO.", CLEAN, "refused: blocked term 'casino'"),
        ("How to get\u200b  ＲＩＣＨ soon.", None, "refused: blocked term 'get rich'"),
        ("Casinoland opens.", CLEAN, PASSED),
        ("It suits Your Religion.", CLEAN, "refused: protected attribute, 'your religion'"),
        ("You liked Your Religion.", CLEAN, PASSED),
    ],
)
def test_texts(text, score, verdict):
    facts = ["Your Religion"] if "liked Your" in text else ["Alien", "Aliens"]
    assert text_verdict(text, facts, score, TERMS).startswith(verdict)


def test_facts_are_refused_where_both_judges_are_sure():
    sure, flag, likely = TextScore(1.0, flag=True), TextScore(0.6, flag=True), TextScore(0.995, flag=False)
    assert facts_verdict(["a"], [sure]).startswith("refused: profanity in the facts")
    assert facts_verdict(["a", "b"], [flag, likely]) == PASSED
    assert facts_verdict(["a", "Casino"], None, TERMS).startswith("refused: blocked term 'casino'")


def test_pictures():
    assert picture_verdict(0.39) == PASSED
    assert picture_verdict(0.41).startswith("refused: picture")
    assert picture_verdict(float("nan")).startswith("refused: picture")


def test_limits_are_those_of_the_settings():
    limits = Limits.of(ContentSettings(max_nsfw=0.2, blocked_terms=["x"]))
    assert limits.nsfw == 0.2
    assert limits.blocked == ("x",)
    assert terms_in("Because people like you buy it.", limits.protected) == ["people like you"]


def test_titles_are_no_words_of_the_text():
    facts = facts_of("Dick Tracy (1990)", ["Action"], {"cast": "Dick Van Dyke, Al Pacino"})
    told = safety.told_facts(facts, ["Kill Bill"])
    assert own_words("You liked Kill Bill, so Dick Tracy with Dick Van Dyke is a good match.", told) == (
        "you liked it, so it with it is a good match."
    )
    asked = Asked(TextKind.ANSWER, facts, ("Kill Bill",), question="Is it any good?")
    assert safety.free_text(asked) == ["Dick Tracy", "Kill Bill", "", "Is it any good?"]


def test_the_judge_of_pictures_gets_their_middle():
    picture = np.zeros((100, 400, 3), dtype=np.uint8)
    picture[:, 200:] = 255
    ready = safety.for_judging(picture)
    assert ready.shape == (224, 224, 3)
    assert ready[:, :100].max() == 0
    assert ready[:, -100:].min() == 255
