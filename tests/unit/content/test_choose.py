"""Of the texts that passed the one closest to its user is taken; of those alike the one that tells most."""

from __future__ import annotations

from upwell.content.choose import best
from upwell.content.prompt import facts_of

ALIEN = facts_of("Alien", ["Horror"], {"year": 1979, "director": "Ridley Scott"})
PLAIN = "Since you liked Jaws, Alien should suit you."
RICH = "Alien is Ridley Scott's 1979 horror film, here because you liked Jaws."


def test_the_closest_text_is_taken_whatever_it_tells() -> None:
    assert best([PLAIN, RICH], ALIEN, [0.3, 0.2]) == 0
    assert best([PLAIN, RICH], ALIEN, [0.2, 0.3]) == 1


def test_of_texts_that_are_alike_or_not_known_the_one_with_most_facts_is_taken() -> None:
    assert best([PLAIN, RICH], ALIEN, [0.301, 0.3]) == 1
    assert best([PLAIN, RICH], ALIEN) == 1
    assert best([PLAIN, PLAIN], ALIEN) == 0
