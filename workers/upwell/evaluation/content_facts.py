"""A published text, the facts in Postgres and the whole catalogue in; titles, names, numbers, kinds and roles that the
facts do not hold out. Pure.

A second opinion: it shares no code with `content/check.py`, which let the text through. That one knows which words are
harmless; this one knows what other items are called, who made them and what kinds there are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from upwell.content.language import SMALL_WORDS
from upwell.content.prompt import Facts, display_title, facts_of

LONGEST: Final = 8
"""Words of a title or name that is looked for in a text."""
_TOKEN = re.compile(r"[^\W_]+(?:['’.&/-][^\W_]+)*", re.UNICODE)
_SENTENCE = re.compile(r"(?:^|[.!?…:]['\"”’)]*\s+|[\"“])\W*$")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WORDS_FOR_NUMBERS: Final = {
    word: str(number)
    for number, words in {
        2: "two twice", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten",
        11: "eleven", 12: "twelve", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy",
        80: "eighty", 90: "ninety", 100: "hundred", 1000: "thousand",
    }.items()
    for word in words.split()
}  # fmt: skip
_ROLES: Final = (
    (re.compile(r"\b(?:directed by|director|filmmaker)\s+", re.IGNORECASE), ("director", "directors", "directed_by")),
    (re.compile(r"\b(?:starring|stars|featuring|played by)\s+", re.IGNORECASE),
     ("cast", "actors", "stars", "starring", "artist", "artists", "band", "host")),
    (re.compile(r"\b(?:written by|penned by|writer|author)\s+", re.IGNORECASE),
     ("writer", "writers", "author", "authors")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gazetteer:
    """What the catalogue calls its items, people and kinds, folded."""

    titles: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    proper: frozenset[str] = frozenset()
    """Titles of one word and last names, but for words that somebody writes in lower case."""


@dataclass(slots=True)
class _Supported:
    """What a text may say."""

    phrases: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)

    def add(self, value: str) -> None:
        folded = fold(value)
        self.phrases.add(folded)
        self.words |= set(_parts(folded))
        self.numbers |= set(_NUMBER.findall(folded))


def gazetteer(items: Iterable[tuple[str, Sequence[str], Mapping[str, Any]]], texts: Iterable[str] = ()) -> Gazetteer:
    """Of a catalogue.

    Args:
        items: title, categories and attributes of each item.
        texts: in which common words stand in lower case.
    """
    titles, names, kinds = set(), set(), set()
    for title, categories, attributes in items:
        titles.add(fold(display_title(title)[0]).rstrip("."))
        kinds |= {fold(category) for category in categories}
        for value in facts_of(title, (), attributes).attributes.values():
            for name in [value] if isinstance(value, str) else value:
                if " " in name and name[:1].isupper() and not any(c.isdigit() for c in name):
                    names.add(fold(name))
    common = {word for text in texts for word in _TOKEN.findall(text) if word == word.lower()}
    proper = {title for title in titles if " " not in title} | {name.rpartition(" ")[2] for name in names}
    proper -= common.union(*SMALL_WORDS.values())
    return Gazetteer(frozenset(titles - {""}), frozenset(names), frozenset(kinds - {""}), frozenset(proper))


def unsupported(
    text: str, facts: Facts, because: Sequence[str] = (), taste: Sequence[str] = (), known: Gazetteer = Gazetteer()
) -> list[str]:
    """What the text says and the facts do not, each beginning with its kind: `number`, `title`, `name`, `kind`, `role`.

    Args:
        facts: of the item, as Postgres holds them now.
        because: titles of the user's items that the occasion named.
        taste: what else the occasion gave as the reason: categories, in its own words.
    """
    may = _supported(facts, because, taste)
    rest = _masked(text, may.phrases)
    found = _numbers(rest, may, facts, because)
    found += _called(rest, may, known)
    found += _proper(rest, may, known)
    found += [f"kind: {kind}" for kind in _kinds(rest, may, known)]
    return found + _roles(text, facts)


def planted(text: str, facts: Facts, because: Sequence[str], donor: Facts) -> list[str]:
    """The text with one invention each, taken from another item: its year, a person or a kind of it, its title.

    What finds these finds such inventions; empty where the text holds nothing that could be exchanged.
    """
    found = []
    if facts.year is not None and donor.year not in (None, facts.year):
        found.append(text.replace(str(facts.year), str(donor.year)))
    for own, others in ((_people(facts), _people(donor)), (facts.categories, donor.categories)):
        strange = [value for value in others if value not in own]
        if strange:
            found += [_exchanged(text, value, strange[0]) for value in own[:1] if value[:1].isupper()]
    if donor.title not in (facts.title, *because):
        found += [_exchanged(text, title, donor.title) for title in because[:1]]
    return [changed for changed in found if changed != text]


def _people(facts: Facts) -> list[str]:
    return [name for value in facts.attributes.values() if not isinstance(value, str) for name in value if " " in name]


def _exchanged(text: str, one: str, other: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", lambda _: other, text, flags=re.IGNORECASE)


def fold(text: str) -> str:
    """For comparison: compatibility forms and quotes unified, case folded, spaces single."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("–", "-")
    return " ".join(text.casefold().split())


def _supported(facts: Facts, because: Sequence[str], taste: Sequence[str]) -> _Supported:
    may = _Supported()
    values = [v for value in facts.attributes.values() for v in ([value] if isinstance(value, str) else value)]
    years = [str(facts.year)] if facts.year is not None else []
    for value in (facts.title, *years, *facts.categories, *values, facts.description, *because, *taste):
        may.add(value)
    for key in facts.attributes:
        may.words |= set(_parts(fold(key.replace("_", " "))))
    return may


def _parts(folded: str) -> list[str]:
    """Words, and the parts of compounds, without possessive endings."""
    found = []
    for word in _TOKEN.findall(folded):
        bare = re.sub(r"'s?$", "", word)
        found += [word, bare, *re.split(r"['.&/-]", bare)]
    return [part for part in found if part]


def _masked(text: str, phrases: Iterable[str]) -> str:
    """The text without what it may say, longest first; as many spaces stand there, so that places stay."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("–", "-")
    for phrase in sorted({p.rstrip(".") for p in phrases if len(p) > 1}, key=len, reverse=True):
        pattern = r"(?<!\w)" + r"\s+".join(re.escape(word) for word in phrase.split()) + r"(?!\w)"
        # A mark, not a space: what follows it does not begin a sentence.
        text = re.sub(pattern, lambda match: "¤" * len(match.group()), text, flags=re.IGNORECASE)
    return text


def _numbers(rest: str, may: _Supported, facts: Facts, because: Sequence[str]) -> list[str]:
    found = [f"number: {number}" for number in _NUMBER.findall(rest) if number not in may.numbers]
    # `two films`: as many as are told of.
    counts = {str(len(because)), str(len(facts.categories))}
    counts |= {str(len(value)) for value in facts.attributes.values() if not isinstance(value, str)}
    for word in _TOKEN.findall(rest):
        number = _WORDS_FOR_NUMBERS.get(word.casefold())
        if number and number not in may.numbers | counts and word.casefold() not in may.words:
            found.append(f"number: {word}")
    return found


def _called(rest: str, may: _Supported, known: Gazetteer) -> list[str]:
    """Titles and names of other items, of at least two words, at least one of them capitalised."""
    tokens = list(_TOKEN.finditer(rest))
    found, skip = [], 0
    for start, token in enumerate(tokens):
        if start < skip:
            continue
        for length in range(min(LONGEST, len(tokens) - start), 1, -1):
            run = rest[token.start() : tokens[start + length - 1].end()]
            phrase = re.sub(r"'s?$", "", fold(run))
            kind = "title" if phrase in known.titles else "name" if phrase in known.names else ""
            if not kind or not any(word[0].isupper() for word in run.split()) or set(_parts(phrase)) <= may.words:
                continue
            found.append(f"{kind}: {run}")
            skip = start + length
            break
    return found


def _proper(rest: str, may: _Supported, known: Gazetteer) -> list[str]:
    """Capitalised words of no fact. At a sentence's beginning, those that are a title or a last name of the catalogue."""
    found = []
    for match in _TOKEN.finditer(rest):
        word = match.group()
        if not any(c.isupper() for c in word) or word == "I" or word.startswith("I'"):
            continue
        parts = set(_parts(fold(word)))
        bare = re.sub(r"'s?$", "", fold(word))
        if bare in may.words or parts - {"s"} <= may.words:
            continue
        opens = _SENTENCE.search(rest[: match.start()]) is not None
        if not opens or bare in known.proper:
            found.append(f"name: {word}")
    return found


def _kinds(rest: str, may: _Supported, known: Gazetteer) -> list[str]:
    folded = fold(rest)
    return [
        kind
        for kind in sorted(known.kinds)
        if not set(_parts(kind)) <= may.words and re.search(rf"(?<!\w){re.escape(kind)}s?(?!\w)", folded)
    ]


def _roles(text: str, facts: Facts) -> list[str]:
    """`directed by X`, where the facts know X, and not in that role."""
    people: dict[str, set[str]] = {}
    for key, value in facts.attributes.items():
        for name in [value] if isinstance(value, str) else value:
            people.setdefault(fold(name), set()).add(key)
    found = []
    for pattern, keys in _ROLES:
        for match in pattern.finditer(text):
            rest = fold(text[match.end() : match.end() + 80])
            found += [
                f"role: {match.group().strip()} {name}"
                for name, roles in people.items()
                if re.match(re.escape(name) + r"(?!\w)", rest) and not roles & set(keys)
            ]
    return found
