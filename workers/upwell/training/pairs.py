"""The film table in, pairs of facts and sentence out: the writer's lessons, and the films that it must never see.

Films that the demo shows are kept apart by title, and one film in ten besides. A share of the lessons is about books,
records, products and more, with made-up facts, so that the writer copes with any catalogue. Seeded: the same seed
gives the same lessons.
"""

from __future__ import annotations

import random
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from upwell.content.kinds import Asked, prompt_of
from upwell.content.prompt import Facts, facts_of
from upwell.events.contracts import TextKind
from upwell.training import kind_shapes, shapes

OTHER_KINDS: Final = (TextKind.SUBJECT, TextKind.DESCRIPTION, TextKind.ANSWER, TextKind.SUMMARY)
OTHER_SHARE: Final = 0.2
"""Share of lessons about other things than films."""
UNSEEN_ONE_IN: Final = 10
REAL_TITLES: Final = 0.75
"""Share of film lessons under the film's own title; the others have one made of words of several."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one text is about, and why, with the text that the writer is taught."""

    facts: Facts
    because: tuple[str, ...]
    reason: str
    taste: tuple[str, ...]
    text: str
    kind: TextKind = TextKind.RECOMMENDATION
    question: str = ""
    reviews: tuple[str, ...] = ()

    def asked(self) -> Asked:
        return Asked(self.kind, self.facts, self.because, self.reason, self.taste, self.question, self.reviews)

    def prompt(self) -> str:
        return prompt_of(self.asked())


@dataclass(frozen=True, slots=True)
class Film:
    title: str
    year: int | None
    genres: tuple[str, ...]
    attributes: dict[str, Any]
    """`director`, `writer`, `cast`, `runtime` (minutes), `country`, `language`; what the table lacks is missing."""


def title_key(title: str) -> str:
    """The same for all spellings of a title: lower case, letters and digits only."""
    return "".join(c for c in title.casefold() if c.isalnum())


def read_films(table: Path) -> list[Film]:
    """All films of bokeh-sampledata's `movies.db` that have a title and a genre, ordered by their number there."""
    query = (
        "SELECT Title, Year, Genre, Director, Writer, [Cast], Runtime, Country, Language FROM omdb"
        " WHERE Title <> '' AND Genre <> '' ORDER BY ID"
    )
    films = []
    with sqlite3.connect(f"file:{table}?mode=ro", uri=True) as database:
        for title, year, genre, director, writer, cast, runtime, country, language in database.execute(query):
            given = {"director": director, "writer": writer, "cast": cast, "runtime": runtime}
            given |= {"country": country, "language": language}
            films.append(Film(title, year, tuple(genre.split(", ")), {k: v for k, v in given.items() if v}))
    return films


def shown_titles(items: Path) -> set[str]:
    """Keys of the titles in RecBole's `ml-100k.item`: what the demo shows."""
    lines = items.read_text(encoding="utf-8").splitlines()[1:]
    return {title_key(facts_of(line.split("\t")[1]).title) for line in lines}


def split(films: Sequence[Film], shown: set[str]) -> tuple[list[Film], list[Film]]:
    """(to learn from, never seen). The second holds everything the demo shows and one film in ten of the rest."""
    learn: list[Film] = []
    unseen: list[Film] = []
    for film in films:
        key = title_key(film.title)
        held_out = key in shown or zlib.crc32(key.encode()) % UNSEEN_ONE_IN == 0
        (unseen if held_out else learn).append(film)
    return learn, unseen


def lessons(
    films: Sequence[Film],
    count: int,
    seed: int,
    *,
    other_share: float = OTHER_SHARE,
    kinds_share: float = 0.0,
    kinds: Sequence[TextKind] = OTHER_KINDS,
) -> list[Lesson]:
    """`kinds_share`: share of lessons that are no recommendation, but each of one of `kinds`."""
    rng = random.Random(seed)
    given = [_other(films, rng) if rng.random() < other_share else _film(films, rng) for _ in range(count)]
    return [of_kind(lesson, rng.choice(kinds), rng) if rng.random() < kinds_share else lesson for lesson in given]


def of_kind(lesson: Lesson, kind: TextKind, rng: random.Random, *, examined: bool = False) -> Lesson:
    """A lesson of another kind about the same item; `examined`: a question that no lesson holds."""
    asked, text = kind_shapes.of_kind(
        kind, lesson.facts, lesson.because, lesson.reason, lesson.taste, rng, examined=examined
    )
    return Lesson(
        asked.facts, asked.because, asked.reason, asked.taste, text, asked.kind, asked.question, asked.reviews
    )


# Shares of a film lesson's attributes: the demo's films have most of them, a user's own table may have none.
_KEPT: Final = {"director": 0.75, "cast": 0.6, "writer": 0.2, "runtime": 0.5, "country": 0.4, "language": 0.15}
_KEYS: Final = {"director": ("director", "directors", "directed_by"), "cast": ("cast", "actors", "starring", "stars")}


def _film(films: Sequence[Film], rng: random.Random) -> Lesson:
    film = rng.choice(films)
    attributes: dict[str, Any] = {}
    if rng.random() < 0.85:
        keys = [k for k in film.attributes if rng.random() < _KEPT[k]]
        if rng.random() < 0.3:
            rng.shuffle(keys)
        for key in keys:
            name = rng.choice(_KEYS[key]) if key in _KEYS and rng.random() < 0.2 else key
            attributes[name] = _people(film.attributes[key], rng) if key == "cast" else film.attributes[key]
    if rng.random() < 0.05:
        attributes["rating"] = str(round(rng.uniform(3, 9.5), 1))
    genres = [_genre(g, rng) for g in film.genres[:4]]
    if rng.random() < 0.3:
        rng.shuffle(genres)
    description = _description(rng) if rng.random() < 0.1 else ""
    title = film.title if rng.random() < REAL_TITLES else _title(films, rng)
    facts = facts_of(title, genres, attributes, description)
    if film.year and rng.random() < 0.85:
        facts = Facts(facts.title, film.year, facts.categories, facts.attributes, facts.description)
    near = [f for f in rng.sample(films, 30) if set(f.genres) & set(film.genres) and f.title != film.title]
    return _lesson(facts, [f.title if rng.random() < REAL_TITLES else _title(films, rng) for f in near[:2]], rng)


def _title(films: Sequence[Film], rng: random.Random) -> str:
    """Words of several titles: nothing that the model could know, so that it learns to copy."""
    words = [
        rng.choice(rng.choice(films).title.split()).strip(",:;.!?-()\"'") for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))
    ]
    named = [w[:1].upper() + w[1:] for w in words if len(w) > 3 or len(words) > 2]
    return " ".join(w for w in named if w) or "Untitled"


def _people(names: str, rng: random.Random) -> list[str]:
    people = names.split(", ")
    return rng.sample(people, min(len(people), 3))


def _genre(genre: str, rng: random.Random) -> str:
    if genre == "Family" and rng.random() < 0.5:
        genre = "Children's"
    if genre in ("Crime", "Mystery") and rng.random() < 0.05:
        genre = "Film-Noir"
    return genre if rng.random() < 0.8 else genre.lower()


def _lesson(facts: Facts, near: Sequence[str], rng: random.Random) -> Lesson:
    reason = rng.choices(("similar", "taste", "popular", "new", ""), weights=(64, 14, 12, 5, 5))[0]
    because: tuple[str, ...] = ()
    taste: tuple[str, ...] = ()
    near = [title for title in near if title != facts.title]
    if reason == "similar" and near:
        because = tuple(near[: rng.choice((1, 1, 2))])
    elif reason == "taste" and facts.categories:
        taste = tuple(rng.sample(list(facts.categories), min(len(facts.categories), rng.choice((1, 1, 2)))))
    elif reason in ("similar", "taste"):
        reason = ""
    return Lesson(facts, because, reason, taste, shapes.sentence(facts, because, rng, reason=reason, taste=taste))


def _description(rng: random.Random) -> str:
    kind = rng.choice(("A story", "A look back", "A quiet tale", "A new edition", "An account", "A classic"))
    about = (
        "two brothers on the run", "a summer that changes a village", "the last days of a factory", "life at sea",
        "a daughter who returns home", "friends who start a band", "a journey across the mountains", "an old promise",
        "a town with a secret", "learning to cook", "the first winter on the farm", "a letter that came too late",
    )  # fmt: skip
    return f"{kind} of {rng.choice(about)}." if rng.random() < 0.7 else f"About {rng.choice(about)}."


# Made-up catalogues: categories, attributes with their values, and how their titles are made.
_MATERIALS = ("Oak", "Steel", "Linen", "Wool", "Glass", "Copper", "Bamboo", "Leather", "Cotton", "Ceramic", "Cork")
_STYLES = ("Compact", "Folding", "Classic", "Slim", "Outdoor", "Everyday", "Nordic", "Travel", "Large", "Mini", "Soft")
_THINGS = (
    "Desk Lamp", "Backpack", "Kettle", "Armchair", "Water Bottle", "Running Shoe", "Headphones", "Keyboard", "Blanket",
    "Frying Pan", "Rain Jacket", "Notebook", "Wall Clock", "Tent", "Coffee Grinder", "Bicycle Helmet", "Camera Strap",
    "Speaker", "Yoga Mat", "Bookshelf", "Knife Set", "Suitcase", "Garden Chair", "Scarf", "Teapot", "Mouse", "Charger",
)  # fmt: skip
_BRANDS = (
    "Nordo",
    "Halden & Sons",
    "Kestrel",
    "Ovali",
    "Brightwell",
    "Tamsin",
    "Luma",
    "Arbor",
    "Quill",
    "Fjell",
    "3Peak",
)
_COLOURS = ("black", "olive green", "sand", "navy", "off-white", "dark red", "grey")
_DOMAINS: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    ("product", ("Home", "Kitchen", "Lighting", "Sports", "Electronics", "Garden", "Office", "Outdoor", "Fashion"),
     ("brand", "material", "colour", "price", "weight")),
    ("book", ("Fiction", "Poetry", "History", "Science Fiction", "Cooking", "Biography", "Crime", "Fantasy", "Classics",
              "Young adult"), ("author", "publisher", "pages", "language", "format")),
    ("record", ("Jazz", "Rock", "Soul", "Electronic", "Folk", "Classical", "Hip-Hop", "Ambient"),
     ("artist", "label", "format", "country")),
    ("game", ("Puzzle", "Strategy", "RPG", "Racing", "Co-op", "Platformer", "Simulation"),
     ("developer", "publisher", "platform", "players")),
    ("recipe", ("Vegetarian", "Soup", "Dessert", "Baking", "Quick", "Salad", "Vegan"), ("chef", "cuisine", "servings")),
    ("course", ("Programming", "Design", "Languages", "Photography", "Music theory"), ("author", "level", "hours")),
    ("podcast", ("News", "Technology", "Comedy", "Society", "True crime", "Business"), ("host", "episodes", "language")),
)  # fmt: skip
_DISHES = ("Soup", "Tart", "Curry", "Salad", "Bread", "Pie", "Noodles", "Stew")
_INGREDIENTS = ("Lentil", "Apple", "Tomato", "Pumpkin", "Rye", "Mushroom", "Lemon", "Chickpea", "Spinach", "Pear")
_SUBJECTS = ("Python", "Watercolour", "Spanish", "Street Photography", "Harmony", "Typography", "Data Analysis")


def _other(films: Sequence[Film], rng: random.Random) -> Lesson:
    domain, categories, keys = rng.choice(_DOMAINS)
    title = _other_title(domain, films, rng)
    near = [t for t in (_other_title(domain, films, rng) for _ in range(3)) if t != title]
    given: dict[str, Any] = {k: _other_value(k, films, rng) for k in keys if rng.random() < 0.6}
    if rng.random() < 0.3:
        given["year"] = rng.randint(1930, 2026)
    if rng.random() < 0.2:
        given = {}
    facts = facts_of(title, rng.sample(categories, rng.choice((1, 1, 2, 2, 3))), given)
    if rng.random() < 0.12:
        facts = Facts(facts.title, facts.year, facts.categories, facts.attributes, _description(rng))
    return _lesson(facts, near, rng)


def _other_title(domain: str, films: Sequence[Film], rng: random.Random) -> str:
    match domain:
        case "product":
            first = rng.choice(_MATERIALS if rng.random() < 0.5 else _STYLES)
            model = f" {rng.choice('ABKMRTX')}{rng.randint(1, 900)}" if rng.random() < 0.15 else ""
            return f"{first} {rng.choice(_THINGS)}{model}"
        case "recipe":
            return f"{rng.choice(_INGREDIENTS)} {rng.choice(_DISHES)}"
        case "course":
            frame = rng.choice(
                ("{} for Beginners", "Practical {}", "{} in Ten Lessons", "Introduction to {}", "{} Basics")
            )
            return frame.format(rng.choice(_SUBJECTS))
        case _:
            return rng.choice(films).title


def _other_value(key: str, films: Sequence[Film], rng: random.Random) -> object:
    match key:
        case "author" | "artist" | "chef" | "host":
            return (rng.choice(films).attributes.get("writer") or "Ada Lind").split(", ")[0]
        case "brand" | "publisher" | "label" | "developer":
            return rng.choice(_BRANDS) + rng.choice(("", "", " Press", " Works", " Studio"))
        case "material":
            return rng.choice(_MATERIALS).lower()
        case "colour":
            return rng.choice(_COLOURS)
        case "price":
            return f"{rng.randint(4, 240)}.{rng.choice(('00', '50', '90', '99'))}"
        case "weight":
            return f"{rng.randint(1, 40) * 50} g"
        case "pages":
            return rng.randint(80, 900)
        case "language":
            return rng.choice(("English", "French", "Spanish", "German"))
        case "country":
            return rng.choice(("France", "Japan", "United States", "Brazil", "Norway"))
        case "format":
            return rng.choice(("paperback", "hardcover", "vinyl", "digital"))
        case "platform":
            return rng.choice(("PC", "Switch", "PC and console", "mobile"))
        case "cuisine":
            return rng.choice(("Italian", "Thai", "Mexican", "Indian", "Greek"))
        case "level":
            return rng.choice(("beginner", "intermediate", "advanced"))
        case _:
            return rng.randint(1, 60)
