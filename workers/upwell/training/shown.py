"""Items with pictures and sounds, and their features, in; what a prefix is taught and examined with out.

An item's vector is the fused one of the product. In examinations its words, written and spoken, are withheld; in lessons it
comes with and without them. Items that share a title are on the same side of the split. Names without any picture are
taught besides (`prefix_words.py`).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from upwell.events.contracts import Item
from upwell.training.fusion import MODALITIES, Fusion
from upwell.training.fusion_features import Features, fused
from upwell.training.pairs import title_key
from upwell.training.prefix import Shown, Vector
from upwell.training.prefix_words import WORD, Embed, Words, texts_alone

WORDLESS: Final = ("image", "audio")
HELD_OUT_ONE_IN: Final = 6
LIKED: Final = 3
"""Items that a profile is made of."""


@dataclass(frozen=True, slots=True)
class Material:
    lessons: list[Shown]
    examination: list[Shown]
    """Held-out items, their words withheld."""
    personal: list[Shown]
    """The same with the profile of a user who likes their category, which the text names."""


def inside(title: str) -> str:
    """The title as it stands inside a sentence."""
    return title[:1].lower() + title[1:]


def text_of(title: str) -> str:
    """What the generator is to say."""
    return f"It shows: {inside(title)}."


def personal_text(title: str, category: str) -> str:
    return f"For a friend of {category}: {inside(title)}."


def held_out(title: str) -> bool:
    return zlib.crc32(title_key(title).encode()) % HELD_OUT_ONE_IN == 0


def material(items: Sequence[Item], features: Features, fusion: Fusion, seed: int, embed: Embed) -> Material:
    """Lessons and examinations. `items` in the order of `features`; `embed`: the text encoder."""
    rng = random.Random(seed)
    views = [fused(fusion, features, names) for names in (WORDLESS, ("image",), ("audio",), MODALITIES)]
    titles = sorted({item.title for item in items if item.title})
    meanings = dict(zip(titles, embed([inside(title) for title in titles]), strict=True))
    wordless = views[0]
    lessons: list[Shown] = []
    examination, personal = [], []
    seen: set[str] = set()
    by_category: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        if item.categories and not held_out(item.title):
            by_category.setdefault(item.categories[-1], []).append(row)
    for row, item in enumerate(items):
        if not item.title:
            continue
        if held_out(item.title):
            # One item of a title: nine others must be wrong.
            if row in wordless and title_key(item.title) not in seen:
                seen.add(title_key(item.title))
                examination.append(Shown(text_of(item.title), wordless[row], meanings[item.title]))
                if len(by_category.get(item.categories[-1] if item.categories else "", ())) >= LIKED:
                    personal.append(_personal(row, item, wordless[row], meanings, views[3], by_category, rng))
            continue
        # The same vector twice teaches nothing: an item with a picture alone has one view of what is not words.
        kinds = (0, 3) if features.present[row, 1:3].sum() < 2 else (0, 1, 2, 3)
        lessons += [
            Shown(text_of(item.title), views[kind][row], meanings[item.title], wordless=kind < 3)
            for kind in kinds
            if row in views[kind]
        ]
        if row in wordless and len(by_category.get(item.categories[-1] if item.categories else "", ())) > LIKED:
            lessons.append(_personal(row, item, wordless[row], meanings, views[3], by_category, rng))
    return Material(lessons, examination, personal)


def alone(
    items: Sequence[Item], classes: Sequence[str], vocabulary: Sequence[str], embed: Embed, words: Words, *, bar: bool
) -> list[Shown]:
    """Names of things without a picture: words of the text encoder's vocabulary, of classes, of titles that are not held out.

    Args:
        bar: leave out every name with a word that a held-out title has, except for the taught titles themselves.
    """
    taught = sorted({inside(item.title) for item in items if item.title and not held_out(item.title)})
    hidden = [item.title.lower() for item in items if held_out(item.title)]
    barred = frozenset(word for title in hidden for word in WORD.findall(title)) if bar else frozenset()
    texts, meanings = texts_alone(taught, classes, vocabulary, embed, words, barred)
    return [Shown(text_of(text), None, meaning) for text, meaning in zip(texts, meanings, strict=True)]


def _personal(
    row: int,
    item: Item,
    vector: Vector,
    meanings: dict[str, Vector],
    known: dict[int, Vector],
    by_category: dict[str, list[int]],
    rng: random.Random,
) -> Shown:
    category = item.categories[-1]
    liked = rng.sample([other for other in by_category[category] if other != row], LIKED)
    profile = np.sum([known[other] for other in liked], axis=0, dtype=np.float32)
    return Shown(personal_text(item.title, category), vector, meanings[item.title], profile)
