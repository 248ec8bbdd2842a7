"""Measures of texts: values that can be worked out by hand, and what is said where there is nothing to measure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.content.prompt import Facts
from upwell.evaluation.content_measures import ABOUT, Measure, differ, share, wilson
from upwell.evaluation.content_texts import likeness, normalised, variety, word_errors
from upwell.training.pairs import Lesson

ALIEN = Facts("Alien", 1979, ["Horror"], {"director": ["Ridley Scott"]})
JAWS = Facts("Jaws", 1975, ["Thriller"], {"director": ["Steven Spielberg"]})


def values(measures: list[Measure]) -> dict[str, float | None]:
    return {measure.key: measure.value for measure in measures}


def test_a_text_that_is_its_reference_has_full_marks():
    texts = ["The cat sat on the old mat today.", "You liked Jaws, so here is Alien for you."]
    found = values(likeness(texts, [[text, "Something else entirely, one would say."] for text in texts]))
    assert found["bleu"] == pytest.approx(100)
    assert found["rouge_l"] == pytest.approx(1)
    assert found["meteor"] == pytest.approx(1, abs=0.01)


def test_a_text_that_shares_nothing_has_none():
    found = values(likeness(["alpha beta gamma delta"], [["one two three four"]]))
    assert found["rouge_l"] == 0
    assert found["meteor"] == 0
    assert found["bleu"] == pytest.approx(0, abs=10)  # sacrebleu smooths


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    # `police the gunman`: 2 of 4 words of the reference in order (Lin 2004, section 3.1).
    found = values(likeness(["police kill the gunman"], [["the gunman kill police"]]))
    assert found["rouge_l"] == pytest.approx(0.5)


def test_texts_may_have_different_numbers_of_references():
    texts = ["a good film for you", "a short walk in rain"]
    found = likeness(texts, [["a good film for you"], ["something", "a short walk in rain"]])
    assert values(found)["rouge_l"] == pytest.approx(1)
    assert found[2].note  # which stages METEOR had


def test_nothing_to_measure_is_said_and_is_no_zero():
    for measure in [*likeness([], []), *variety([])]:
        assert measure.value is None
        assert measure.lacking
        assert measure.as_dict() == {"not_measured": measure.lacking}


def test_shapes_are_texts_without_their_facts():
    told = [
        ("Try Alien, by Ridley Scott.", ALIEN),
        ("Try Jaws, by Steven Spielberg.", JAWS),
        ("Jaws is from 1975.", JAWS),
    ]
    found = values(variety([Lesson(facts, (), "", (), text) for text, facts in told]))
    assert found["shapes"] == 2
    assert found["distinct_1"] == pytest.approx(12 / 14)


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("It's the pig.", "its the pig", 0),
        ("Meet the pig", "meet a big pig", 2),
        ("one two three", "", 3),
        ("Ｓｃｉ-Fi, 1979!", "sci fi 1979", 0),
        ("a b c d", "b c d e", 2),
    ],
)
def test_word_errors(said, heard, errors):
    assert word_errors(said, heard) == (errors, len(normalised(said)))


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_word_errors_are_a_distance(one, other):
    there, back = word_errors(" ".join(one), " ".join(other))[0], word_errors(" ".join(other), " ".join(one))[0]
    assert there == back
    assert abs(len(one) - len(other)) <= there <= max(len(one), len(other))
    assert (there == 0) == (one == other)


def test_wilson_as_published():
    # Newcombe 1998, table I, method 3: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(20, 20)[1] == 1


def test_a_share_of_nothing_is_not_measured():
    assert share("faithful", 0, 0, "no texts").as_dict() == {"not_measured": "no texts"}
    found = share("faithful", 19, 20)
    assert found.reached
    assert found.as_dict()["target"] == ABOUT["faithful"].target
    assert not share("faithful", 18, 20).reached


def test_shares_differ_as_published():
    # Newcombe 1998, table II, method 10: 56 of 70 against 48 of 80 differ by 0.0524 to 0.3339; 9 of 10 against 3 of 10
    # by 0.1705 to 0.8090; 6 of 7 against 2 of 7 by 0.0582 to 0.8062; 5 of 56 against 0 of 29 not.
    assert differ(56, 70, 48, 80)
    assert differ(9, 10, 3, 10)
    assert differ(6, 7, 2, 7)
    assert not differ(5, 56, 0, 29)
    assert not differ(10, 10, 20, 20)
