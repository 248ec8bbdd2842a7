"""A text encoder's vocabulary, names of classes and titles in; names of things, for which no picture is needed, out.

Which words name things is told by how near they lie to names that do, in the encoder's space (data selection as of Moore
and Lewis 2010). Titles of the taught items are varied as well: a word of theirs changes places with one like it. Seeded.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Rows]
"""Texts to float32 [n, m] of unit length."""

WORD: Final = re.compile(r"[a-z]{3,}")
LIKE_IT: Final = 40
"""Neighbours of a word that it may change places with."""
COMMONEST: Final = 3
"""In how many parts of the words the nearest to things lie, from which pairs are made: one."""


@dataclass(frozen=True, slots=True)
class Words:
    """How many of which are made."""

    single: int = 5000
    varied: int = 4000
    """Titles with a word exchanged."""
    paired: int = 2000
    """A title's first word, and another word."""
    repeated: int = 4
    """How often names of classes, and titles, stand in the list: what names things for certain."""
    seed: int = 7


def whole_words(vocabulary: Iterable[str]) -> list[str]:
    """The tokens that are words of at least three small Latin letters, in alphabetical order.

    Pieces of words are left out as far as their mark tells: `##` continues a word, `▁` and `Ġ` begin one.
    """
    return sorted({word for token in vocabulary if WORD.fullmatch(word := token.lstrip("▁Ġ"))})


def texts_alone(
    titles: Sequence[str],
    classes: Sequence[str],
    vocabulary: Sequence[str],
    embed: Embed,
    words: Words = Words(),
    barred: frozenset[str] = frozenset(),
) -> tuple[list[str], Rows]:
    """Names of things, and what they mean: n texts, float32 [n, m].

    Args:
        titles: of the items that are taught, as a sentence goes on with them.
        barred: words that may occur in none of them but in the titles themselves.
    """
    rng = random.Random(words.seed)
    known = [word for word in vocabulary if word not in barred]
    meant, certain = embed(known), embed([*titles, *classes])
    centre = certain.mean(0)
    places, anchors = _unit(meant - centre), _unit(certain - centre)
    nearest = np.argsort(-(places @ anchors.T).max(1), kind="stable")[: words.single]
    chosen, places = [known[i] for i in nearest], places[nearest]
    named = [name for name in classes if not barred & set(WORD.findall(name.lower()))]
    long = [title for title in titles if " " in title]
    number = {word: i for i, word in enumerate(chosen)}
    varied = [_varied(rng.choice(long), number, places, rng) for _ in range(words.varied)] if long else []
    common = chosen[: max(1, len(chosen) // COMMONEST)]
    paired = [f"{rng.choice(long).split()[0]} {rng.choice(common)}" for _ in range(words.paired)] if long else []
    made = [text for text in (*varied, *paired) if not barred & set(WORD.findall(text.lower()))]
    texts = [*chosen, *made, *words.repeated * [*named, *titles]]
    found = dict(zip(chosen, meant[nearest], strict=True)) | dict(zip([*titles, *classes], certain, strict=True))
    new = [text for text in dict.fromkeys(made) if text not in found]
    if new:
        found |= dict(zip(new, embed(new), strict=True))
    return texts, np.stack([found[text] for text in texts])


def _varied(title: str, number: dict[str, int], places: Rows, rng: random.Random) -> str:
    """The title with one word changed for one that is like it; as it is where none of its words is known.

    number: rows of `places` by word.
    """
    parts = title.split()
    known = [i for i, part in enumerate(parts) if part.lower() in number]
    if not known:
        return title
    at = rng.choice(known)
    near = np.argsort(-(places @ places[number[parts[at].lower()]]), kind="stable")[1 : LIKE_IT + 1]
    words = list(number)
    return " ".join([*parts[:at], words[rng.choice(near.tolist())], *parts[at + 1 :]]) if len(near) else title


def _unit(x: Rows) -> Rows:
    rows: Rows = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return rows
