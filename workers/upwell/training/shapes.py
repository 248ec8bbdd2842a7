"""Facts and a reason in, one sentence or two that a person could have written out: what the writer is taught from.

A text is put together from a fact part and a reason part in one of seven structures; parts are drawn only where their
slots have facts, and no slot is used twice. Nothing is said that the facts do not hold. Pure and seeded.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Final

from upwell.content.prompt import PEOPLE, Facts, reason_kind

Slots = dict[str, str]

# Slots: T title, Y year, D director, C cast (one to three names), A author or artist, O origin (brand, publisher, …),
# G kind of film with article ("a crime drama"), g the same without, GS genres as a list, MX the same where there
# are several, FS categories of what is no film, R running time, L country, K/V any other attribute and its value, N/P
# the same where it counts, B the liked items, X the liked categories.

NOUN_PHRASES: Final = (
    "{T}", "{T} ({Y})", "{D}'s {T}", "{T}, {D}'s {Y} {g}", "{T}, {G} from {Y}", "{T}, {G} with {C}", "{D}'s {g} {T}",
    "the {Y} {g} {T}", "{T} by {D}", "{T}, with {C} in the cast", "{T}, {G} directed by {D}", "{T} ({Y}), {G} by {D}",
    "{D}'s {Y} {g} {T}", "{T}, {R} of {GS}", "{T}, {G} made in {L}", "{T}, {D}'s mix of {MX}", "{T} from {Y}, {G}",
    "{T}, {G} featuring {C}", "{T}, directed by {D}", "{T}, {G}",
    "{T} by {A}", "{T} by {A} ({Y})", "{A}'s {T}", "{A}'s {T} from {Y}", "{T} from {O}", "{O}'s {T}",
    "{T}, filed under {FS}", "{T}, something in {FS}", "{T} by {A}, filed under {FS}", "{T} (in {FS})",
)  # fmt: skip
"""An item as part of a sentence."""

MAINS: Final = (
    "{T} is {D}'s {Y} {g}", "{T} is {G} from {Y}", "{T} ({Y}) is {G} directed by {D}", "{D}'s {T} is {G}",
    "{D} directed {T}, {G} from {Y}", "{T} is {G} with {C}", "{T} brings {C} to {G} by {D}", "{T} mixes {MX}",
    "{T} runs {R} and mixes {MX}", "{T}, {G} with {C}, came out in {Y}", "in {Y}, {D} made {T}, {G}",
    "{C} can be seen in {T}, {G} by {D}", "{T} is {G} made in {L}", "{T} by {D} is {Y}'s take on {GS}",
    "{T} has {C} in the cast and {D} behind the camera", "{T} puts {C} into {G}", "with {T}, {D} turned to {GS} in {Y}",
    "{T} is {D}'s take on {GS}", "{T} offers {R} of {GS}", "{T} dates from {Y} and brings {MX} together",
    "{D} is behind {T}, {R} of {GS}", "{T} is {G}, directed by {D}, with {C}", "{T} is {G}",
    "{T} is by {A}", "{T} by {A} is filed under {FS}", "{A} is behind {T}, from {Y}", "{T} comes from {O}",
    "{T} from {O} is filed under {FS}", "{T} is one for {FS}", "{T} is filed under {FS}", "{A}'s {T} came out in {Y}",
    "{T} is filed under {FS}, and its {K} is {V}", "{T} by {A} dates from {Y}", "{T}, from {O}, has {V} as its {K}",
)  # fmt: skip
"""A whole clause about an item."""

EXTRAS: Final = (
    "It runs {R}.", "The cast includes {C}.", "Directed by {D}.", "It is {G}.", "It came out in {Y}.", "Expect {GS}.",
    "Expect {R} of {GS}.", "It was made in {L}.", "Look out for {C}.", "{C} can be seen in it.", "It dates from {Y}.",
    "It is a mix of {MX}.", "{D} made it in {Y}.", "It lasts {R} and features {C}.", "Made in {L}, it runs {R}.",
    "Its {K} is {V}.", "The {K} is {V}.", "It is filed under {FS}.", "It comes from {O}.", "{A} is behind it.",
    "You will find it under {FS}.", "The {K}: {V}.", "It has {N} {P}.", "It was made by {A}.",
)  # fmt: skip
"""One more fact, as a sentence of its own."""

ACTIONS: Final = (
    "try {NP}", "{NP} is worth a look", "{NP} should suit you", "{NP} could be next", "we suggest {NP}",
    "give {NP} a chance", "{NP} looks like a good match", "{NP} belongs on your list", "take a look at {NP}",
    "{NP} is a natural next step", "how about {NP}", "{NP} may be just right", "consider {NP}", "{NP} fits well",
    "you might enjoy {NP}", "make room for {NP}", "{NP} is our pick for you", "go for {NP}", "have a look at {NP}",
    "{NP} deserves your time", "next up could be {NP}", "there is {NP}",
)  # fmt: skip

HEADS: Final[Mapping[str, tuple[str, ...]]] = {
    "similar": (
        "since you liked {B},", "because you enjoyed {B},", "if {B} worked for you,", "you liked {B}, so", "after {B},",
        "going by {B},", "for someone who liked {B},", "you enjoyed {B};", "as you liked {B},", "close to {B}:",
        "with {B} in mind,", "you went for {B}, so", "from {B} it is a short way:",
        "liking {B} is a good sign:", "because of {B},",
    ),
    "taste": (
        "you like {X}, so", "since you like {X},", "for your taste in {X},", "as {X} is your thing,", "more {X} for you:",
        "with your taste for {X},", "when you want {X},", "for the {X} side of you,", "if you are up for {X} again,",
        "going by your taste for {X},", "because {X} suits you,", "staying with {X},",
    ),
    "popular": (
        "popular right now:", "a favourite with others at the moment:", "as many others are choosing it,",
        "many others have picked it lately:", "much chosen these days:", "others keep coming to it:",
        "if you want what others are choosing,", "among what is popular now,", "right now many go for it:",
    ),
    "new": ("new here:", "just added:", "fresh on the list:", "among the new arrivals,", "newly arrived:"),
    "": ("for you:", "a suggestion:", "something for your list:", "one to consider:", "for a change,", "worth a try:"),
}  # fmt: skip
"""The reason first, lower case, with its punctuation."""

TAILS: Final[Mapping[str, tuple[str, ...]]] = {
    "similar": (
        "picked for you because of {B}", "a good match for someone who liked {B}", "chosen because you enjoyed {B}",
        "close in spirit to {B}, which you liked", "here because you liked {B}", "much in line with {B}",
        "a step on from {B}", "suggested on the strength of {B}", "on your list thanks to {B}",
    ),
    "taste": (
        "right where your taste for {X} lies", "picked for your taste in {X}", "here because you like {X}",
        "one more for your {X} side", "chosen with your liking for {X} in mind", "a match for your interest in {X}",
    ),
    "popular": (
        "popular with others right now", "which many others are choosing at the moment", "a current favourite with others",
        "much picked these days", "in demand at the moment",
    ),
    "new": ("just added", "a new arrival", "fresh on the list", "new here"),
    "": ("worth a look", "one for your list", "worth your time", "possibly just right for you"),
}  # fmt: skip
"""Appositions that give the reason."""

CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "similar": (
        "if you liked {B}", "since {B} was to your taste", "as you enjoyed {B}", "because you liked {B}",
        "seeing that you went for {B}", "given that you liked {B}",
    ),
    "taste": ("since you like {X}", "because you like {X}", "if you feel like {X}", "as {X} is what you like"),
    "popular": ("because many others do", "as it is popular right now", "since others keep choosing it"),
    "new": ("now that it is here", "as it has just arrived"),
    "": ("if it appeals to you", "when you have the time"),
}  # fmt: skip
"""Clauses that give the reason, after a suggestion."""

REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "similar": (
        "It made your list because of {B}.", "You liked {B}, and this should fit right in.", "{B} is the reason it is here.",
        "We picked it because you enjoyed {B}.", "If you liked {B}, this one is for you.", "It sits well next to {B}.",
        "It is here because you liked {B}.", "You enjoyed {B}, so it is worth a try.", "Think of it as a follow-up to {B}.",
        "Anyone who liked {B} should give it a go.", "Your liking for {B} points this way.", "It follows from {B}.",
        "That puts it close to {B}, which you liked.",
    ),
    "taste": (
        "It matches your taste for {X}.", "You like {X}, so it should suit you.", "That fits your liking for {X}.",
        "Your taste for {X} brought it up.", "If you are after {X}, this is it.", "It is here because you like {X}.",
    ),
    "popular": (
        "It is popular right now.", "Many others picked it lately.", "Others are choosing it at the moment.",
        "It is a favourite with others these days.", "Plenty of others are going for it.",
    ),
    "new": ("It has just arrived.", "It is new here.", "It was added only recently.", "Be among the first to try it."),
    "": ("It may suit you.", "It is worth a look.", "Give it a try.", "It could be one for you."),
}  # fmt: skip

QUESTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "similar": (
        "Liked {B}?", "Want something along the lines of {B}?", "Did {B} work for you?", "What to try after {B}?",
        "Enjoyed {B}?", "More in the vein of {B}?",
    ),
    "taste": ("In the mood for {X}?", "Looking for {X}?", "More {X}?", "Time for {X} again?"),
    "popular": ("What are others choosing now?", "Curious what is popular?", "What is everyone picking?"),
    "new": ("Want something new?", "What is new?", "After a new arrival?"),
    "": ("Looking for something?", "Nothing planned yet?", "What next?"),
}  # fmt: skip

ADJECTIVES: Final = {
    "action", "adventure", "crime", "family", "fantasy", "horror", "mystery", "sci-fi", "war", "romance", "history",
    "western", "musical", "sport", "biography", "comedy",
}  # fmt: skip
NOUNS: Final = {"drama", "comedy", "thriller", "adventure", "romance", "musical", "western", "documentary", "mystery"}
FILM_GENRES: Final = ADJECTIVES | NOUNS | {"animation", "children's", "film-noir", "music", "children"}
SOURCES: Final = ("author", "artist", "composer", "band", "developer", "designer", "host", "chef")
ORIGINS: Final = ("brand", "publisher", "label", "maker", "studio", "manufacturer", "store")
DIRECTORS: Final = ("director", "directors", "directed_by")
CASTS: Final = ("cast", "actors", "stars", "starring")
USED_KEYS: Final = frozenset({*DIRECTORS, *CASTS, *SOURCES, *ORIGINS, "runtime", "duration", "length", "country"})


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def article(phrase: str) -> str:
    return ("an " if phrase[:1].lower() in "aeiou" else "a ") + phrase


def placed(country: str) -> str:
    """`the United States`, `France`."""
    return f"the {country}" if country.startswith(("United", "Nether", "Czech Rep")) else country


def lowered(category: str) -> str:
    """Lower case, but not an abbreviation such as `RPG`."""
    return category if len(category) > 1 and category.isupper() else category.lower()


def kind_phrase(categories: Sequence[str], rng: random.Random, *, film: bool) -> str | None:
    """`crime drama`, `horror film`, `drama with comedy`, …; None where a category is no film genre.

    `film`: a director or a cast says that it is one; a shelf called "Crime" alone may hold books.
    """
    names = [c.lower() for c in categories[:3]]
    if not names or any(n not in FILM_GENRES for n in names):
        return None
    if not film and not any(n in NOUNS for n in names):
        return None
    nouns = [n for n in names if n in NOUNS]
    others = [n for n in names if n in ADJECTIVES]
    pairs = [(a, n) for n in nouns for a in others if a != n]
    if pairs and rng.random() < 0.75:
        return " ".join(rng.choice(pairs))
    if nouns and rng.random() < 0.8:
        return rng.choice(nouns)
    first = rng.choice(names if film else nouns)
    special = {"animation": "animated film", "sport": "sports film", "film-noir": "film-noir", "biography": "biography"}
    return special.get(first, first if first in NOUNS else f"{first} film")


def slots_of(facts: Facts, because: Sequence[str], taste: Sequence[str], rng: random.Random) -> Slots:
    """What every slot holds for this item; a slot without a fact is missing. Picks among several names by chance."""
    slots: Slots = {"T": facts.title}
    if facts.year is not None:
        slots["Y"] = str(facts.year)
    categories = [lowered(c) for c in facts.categories[:3]]
    film = any(key in facts.attributes for key in (*DIRECTORS, *CASTS))
    if kind := kind_phrase(facts.categories, rng, film=film):
        slots["g"], slots["G"], slots["GS"] = kind, article(kind), listed(categories)
        if len(categories) > 1:
            slots["MX"] = slots["GS"]
    elif categories:
        slots["FS"] = listed(categories)
    others: list[tuple[str, str]] = []
    for key, value in facts.attributes.items():
        values = [value] if isinstance(value, str) else list(value)[:3]
        if key in CASTS:
            size = min(len(values), rng.choice((1, 1, 2, 2, 3)))
            slots["C"] = listed([v for v in values if v in rng.sample(values, size)] or values[:1])
        elif key in DIRECTORS:
            slots["D"] = listed(values[:2])
        elif key in SOURCES:
            slots["A"] = listed(values[:2])
        elif key in ORIGINS:
            slots["O"] = values[0]
        elif key in ("runtime", "duration", "length") and kind:
            slots["R"] = values[0]
        elif key == "country":
            named = [n for v in values for n in v.split(", ")][:3]
            slots["L"] = listed([placed(n) for n in named])
        elif key not in PEOPLE and len(values) == 1 and len(values[0]) <= 40:
            others.append((key.replace("_", " "), values[0]))
    if others and not kind:
        key, value = rng.choice(others)
        if not key.endswith("s"):
            slots["K"], slots["V"] = key, value
        elif value.isdigit() and value != "1":
            slots["N"], slots["P"] = value, key
    if because:
        slots["B"] = listed(list(because[:2])) if rng.random() < 0.6 else because[0]
    if taste:
        slots["X"] = listed([lowered(t) for t in taste[:2]])
    return slots


def needs(shape: str) -> frozenset[str]:
    return frozenset(re.findall(r"{(\w+)}", shape)) - {"NP"}


_SAME = {name: {"G", "g", "GS", "MX"} for name in ("G", "g", "GS", "MX")}


def pick(shapes: Sequence[str], slots: Slots, used: set[str], rng: random.Random) -> str | None:
    """A shape whose slots all have facts that are not used yet; the more facts it uses the likelier it is."""
    free = [s for s in shapes if all(n in slots and (n == "T" or n not in used) for n in needs(s))]
    if not free:
        return None
    shape = rng.choices(free, weights=[1 + 1.2 * len(needs(s)) for s in free])[0]
    for name in needs(shape):
        used |= {name} | _SAME.get(name, set())
    return shape


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def opened(text: str) -> str:
    """Every sentence with a capital."""
    return re.sub(r"((?:^|[.?!] ))([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)


def sentence(
    facts: Facts, because: Sequence[str], rng: random.Random, *, reason: str = "", taste: Sequence[str] = ()
) -> str:
    """One text about the item, faithful to its facts and to the reason."""
    kind = reason_kind(because, reason, taste)
    slots = slots_of(facts, because, taste, rng)
    used: set[str] = set()

    def choose(shapes: Sequence[str]) -> str:
        return pick(shapes, slots, used, rng) or ""

    def act(actions: Sequence[str] = ACTIONS) -> str:
        action, phrase = choose(actions), choose(NOUN_PHRASES)
        # An apposition is closed by a comma where the sentence goes on.
        close = "," if ", " in phrase and not action.endswith("{NP}") else ""
        return action.replace("{NP}", phrase + close)

    def closed(text: str) -> str:
        return text + ("?" if re.match(r"(.*[,;:] )?how about ", text) else ".")

    structure = rng.choices(
        ("head", "main-reason", "main-tail", "action-tail", "head-extra", "question", "main-extra-reason"),
        weights=(22, 18, 18, 12, 14, 10, 6),
    )[0]
    match structure:
        case "head":
            text = closed(f"{choose(HEADS[kind])} {act()}")
        case "main-reason":
            text = f"{choose(MAINS) or act()}. {choose(REASONS[kind])}"
        case "main-tail":
            # The reason stands behind the title: "Alien, much in line with Jaws, mixes horror and sci-fi."
            main = choose([m for m in MAINS if m.startswith("{T} ")])
            tail = choose(TAILS[kind])
            text = re.sub(r"^({T}(?: \({Y}\))?) ", rf"\1, {tail}, ", main) + "." if main else f"{act()}, {tail}."
        case "action-tail":
            actions = [a for a in ACTIONS if not a.startswith(("how about", "there is"))]
            text = f"{act(actions)}, {choose(TAILS[kind] + CAUSES[kind])}."
        case "head-extra":
            text = f"{closed(f'{choose(HEADS[kind])} {act()}')} {choose(EXTRAS)}"
        case "question":
            text = f"{choose(QUESTIONS[kind])} {capitalised(closed(act()))}"
        case _:
            text = f"{choose(MAINS) or act()}. {choose(EXTRAS)} {choose(REASONS[kind])}"
    # A part that begins in lower case opens a sentence now; what a slot holds keeps its own spelling.
    text = opened(text.strip())
    return capitalised(re.sub(r"{(\w+)}(\.?)", lambda m: _ended(slots[m.group(1)], m.group(2)), text))


def _ended(value: str, stop: str) -> str:
    """No full stop after a title that ends with its own mark."""
    return value if value.endswith((".", "!", "?")) else value + stop
