"""The text that answers where the model cannot, from the same facts as its prompt: plain, and always faithful. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from upwell.content.language import primary
from upwell.content.prompt import MAX_BECAUSE, Facts, clean, reason_kind

_REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "similar": "Suggested because you liked {}.", "taste": "Suggested because you like {}.",
        "popular": "It is popular right now.", "new": "It is new here.", "": "It may suit you.", "and": "and",
    },
    "de": {
        "similar": "Empfohlen, weil dir {} gefallen hat.", "taste": "Empfohlen, weil du {} magst.",
        "popular": "Das ist gerade beliebt.", "new": "Das ist neu hier.", "": "Das könnte dir gefallen.", "and": "und",
    },
    "fr": {
        "similar": "Suggéré parce que vous avez aimé {}.", "taste": "Suggéré parce que vous aimez {}.",
        "popular": "Très demandé en ce moment.", "new": "C'est une nouveauté.", "": "Cela pourrait vous plaire.", "and": "et",
    },
    "es": {
        "similar": "Sugerido porque te gustó {}.", "taste": "Sugerido porque te gusta {}.",
        "popular": "Es popular en este momento.", "new": "Es una novedad.", "": "Puede que te guste.", "and": "y",
    },
}  # fmt: skip
LANGUAGES: Final = frozenset(_REASONS)
"""Languages with a template; English answers for others."""


def template(
    facts: Facts,
    because: Sequence[str] = (),
    language: str = "en",
    *,
    reason: str = "",
    taste: Sequence[str] = (),
) -> str:
    """One line on what the item is, one on why it is suggested. Arguments as those of `prompt.prompt`.

    >>> template(Facts("Alien", 1979, ["Horror", "Sci-Fi"]), ["Jaws"])
    'Alien (1979): horror, sci-fi. Suggested because you liked Jaws.'
    """
    words = _REASONS.get(primary(language), _REASONS["en"])
    kind = reason_kind(because, reason, taste)
    evidence = because if kind == "similar" else taste
    named = [clean(e) for e in evidence[:MAX_BECAUSE]]
    why = words[kind].format(f" {words['and']} ".join(named))
    what = clean(facts.title)
    if facts.year is not None:
        what += f" ({facts.year})"
    if facts.categories:
        listed = [clean(c, 40) for c in facts.categories[:3]]
        what += ": " + ", ".join(c if c.isupper() or primary(language) == "de" else c.lower() for c in listed)
    if what and not what.endswith((".", "!", "?")):
        what += "."
    return f"{what} {why}".strip()


def template_language(language: str) -> str:
    """The language that `template` answers in."""
    return primary(language) if primary(language) in LANGUAGES else "en"
