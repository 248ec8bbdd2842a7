"""Groups hold what is nearly the same, and nothing else."""

from __future__ import annotations

import random

from upwell.items.near_duplicates import near_duplicates

WORDS = [f"word{n}" for n in range(2_000)]


def text(rng: random.Random, length: int = 80) -> list[str]:
    return rng.choices(WORDS, k=length)


def test_nearly_equal_texts_are_found_in_their_order() -> None:
    rng = random.Random(1)
    texts = {f"i{n}": " ".join(text(rng)) for n in range(300)}
    changed = texts["i7"].split()
    changed[3] = "other"
    texts["copy"] = " ".join(changed)
    texts["loud"] = texts["i7"].upper() + "!"
    assert near_duplicates(texts) == [["i7", "copy", "loud"]]


def test_half_equal_texts_are_none() -> None:
    rng = random.Random(2)
    shared = text(rng, 40)
    texts = {n: " ".join(shared + text(rng, 40)) for n in range(50)}
    assert near_duplicates(texts) == []
    assert len(near_duplicates(texts, threshold=0.2)) == 1


def test_chains_are_one_group() -> None:
    rng = random.Random(3)
    words = text(rng)
    texts = {}
    for step in range(12):
        texts[step] = " ".join(words)
        words[step * 6] = f"new{step}"
    assert near_duplicates(texts) == [list(range(12))]


def test_short_and_empty_texts() -> None:
    texts = {"a": "Alien", "b": "alien!", "c": "", "d": " ", "e": "Aliens", "f": "\ud800"}
    assert near_duplicates(texts) == [["a", "b"]]
    assert near_duplicates({}) == []


def test_any_number_of_equal_texts_takes_linear_time() -> None:
    equal = dict.fromkeys(range(20000), "the same text again and again")
    assert near_duplicates(equal) == [list(range(20_000))]
