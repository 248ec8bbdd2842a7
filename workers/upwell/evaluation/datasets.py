"""MovieLens-100K and film facts in (as their packages hold them), item and interaction events in time order out.

The same files always give the same events, ids included.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np

from upwell.events.contracts import Interaction, Item

MOVIELENS_DIR: Final = "recbole/dataset_example/ml-100k"
FACTS_FILE: Final = "bokeh_sampledata/_data/movies.db"
"""Both below the folder of fetched weights and data."""

CAST_NAMES: Final = 6
AT_ONCE: Final = 40
"""Newcomers who are there at the same time."""
_ARTICLE_LAST = re.compile(
    r"^(?P<rest>.+), (?P<article>The|A|An|Le|La|Les|L'|Il|Lo|El|Los|Las|Das|Der|Die|Det|Den|Un|Une|Una|O)$"
)
_ALSO = re.compile(r"^(?P<title>.+?)\s*\((?:a\.k\.a\. )?(?P<also>[^()]+)\)$")
_NOT_LETTERS = re.compile(r"[^a-z0-9]+")
_ARTICLE_FIRST = re.compile(r"^(the|a|an|le|la|les|l|il|el|das|der|die) ")


class DatasetError(Exception):
    """The data cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Dataset:
    """Events to publish: items first, then interactions in time order (stable)."""

    name: str
    items: list[Item]
    interactions: list[Interaction]
    refused: list[str] = field(default_factory=list)
    """Rows of a file that no event could be made of: line, column, why."""
    notes: list[str] = field(default_factory=list)
    """What a person should know about how the data was read."""

    @property
    def users(self) -> int:
        return len({event.user_id for event in self.interactions})

    def titles(self) -> dict[str, str]:
        """Item id to the title that people read, with the year where there is one."""
        shown = {}
        for item in self.items:
            year = item.attributes.get("year")
            shown[item.item_id] = f"{item.title} ({year})" if year else item.title
        return shown

    def first(self, events: int | None) -> Dataset:
        """The same with only the earliest `events` interactions."""
        if events is None or events >= len(self.interactions):
            return self
        return Dataset(self.name, self.items, self.interactions[:events], self.refused, self.notes)

    def beginnings(self, users: int, each: int, seed: int) -> Dataset:
        """The first `each` interactions of `users` users, drawn by `seed`: a crowd of newcomers.

        In the order of their arrival, AT_ONCE of them at a time and in turns: each has something new after as many events.
        """
        own: dict[str, list[Interaction]] = defaultdict(list)
        for event in self.interactions:
            own[event.user_id].append(event)
        names = list(own)
        drawn = [names[n] for n in sorted(np.random.default_rng(seed).permutation(len(names))[:users])]
        events = []
        for start in range(0, len(drawn), AT_ONCE):
            turns = zip_longest(*(own[name][:each] for name in drawn[start : start + AT_ONCE]))
            events += [event for turn in turns for event in turn if event is not None]
        return Dataset(f"{self.name}, newcomers", self.items, events, self.refused, self.notes)


def movielens(data: Path) -> Dataset:
    """MovieLens-100K's 1,682 films and 100,000 ratings; films joined by title and year to facts about them.

    Args:
        data: folder that holds the fetched packages.

    Raises:
        DatasetError: a file is missing or is not what it should be.

    """
    folder, facts_file = data / MOVIELENS_DIR, data / FACTS_FILE
    for path in (folder / "ml-100k.item", folder / "ml-100k.inter", facts_file):
        if not path.is_file():
            raise DatasetError(f"{path.name} is missing in {data}: `make setup` fetches it")
    find = _facts(facts_file)
    items = [_film(row, find) for row in atomic(folder / "ml-100k.item", 4)]
    ratings = [
        Interaction(f"ml100k-{user}-{film}-{ts}", user, "rating", int(float(ts) * 1000), film, float(value))
        for user, film, value, ts in atomic(folder / "ml-100k.inter", 4)
    ]
    ratings.sort(key=lambda event: event.ts)
    return Dataset("MovieLens-100K", items, ratings)


def atomic(path: Path, columns: int) -> Iterable[list[str]]:
    """Rows of one of RecBole's tab-separated "atomic files", header left out."""
    with path.open(encoding="utf-8") as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            row = line.rstrip("\r\n").split("\t")
            if len(row) != columns:
                raise DatasetError(f"{path.name}, line {number}: {len(row)} columns instead of {columns}")
            yield row


def _film(row: Sequence[str], find: Callable[[Sequence[str], int | None], dict[str, Any]]) -> Item:
    film, listed, year_text, genres = row
    title, also = natural_title(listed)
    year = int(year_text) if year_text.isdigit() else None
    attributes: dict[str, Any] = {"year": year} if year else {}
    attributes |= find([title, *also], year)
    if also:
        attributes["also_known_as"] = also[0]
    return Item(
        film,
        title=title,
        language="en",
        categories=[genre for genre in genres.split() if genre != "unknown"],
        attributes=attributes,
    )


def natural_title(listed: str) -> tuple[str, list[str]]:
    """A catalogue title as people say it, and its other titles.

    >>> natural_title("Usual Suspects, The")
    ('The Usual Suspects', [])
    >>> natural_title("Postino, Il (Postman, The)")
    ('Il Postino', ['The Postman'])
    """
    also: list[str] = []
    title = listed.strip()
    while found := _ALSO.match(title):
        title = found["title"]
        also.insert(0, _article_first(found["also"]))
    return _article_first(title), also


def _article_first(title: str) -> str:
    title = title.strip()
    if found := _ARTICLE_LAST.match(title):
        joint = "" if found["article"].endswith("'") else " "
        return f"{found['article']}{joint}{found['rest']}"
    return title


def _same(title: str) -> str:
    """What is left of a title when accents, case, punctuation and a leading article are not looked at."""
    plain = unicodedata.normalize("NFKD", title.casefold().replace("&", " and ").replace("'", "").replace("’", ""))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return _ARTICLE_FIRST.sub("", _NOT_LETTERS.sub(" ", plain).strip())


def _facts(path: Path) -> Callable[[Sequence[str], int | None], dict[str, Any]]:
    """Looks facts up by any of a film's titles and its year, a year off being close enough; none when in doubt."""
    films: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute(
            'SELECT "Title", "Year", "Director", "Cast", "Runtime", "Country", "Language" FROM omdb ORDER BY "ID"'
        )
        for row in rows:
            films[_same(row["Title"])].append(dict(row))

    def find(titles: Sequence[str], year: int | None) -> dict[str, Any]:
        if year is None:
            return {}
        for away in (0, 1):
            for title in titles:
                close = [film for film in films.get(_same(title), ()) if abs((film["Year"] or 0) - year) == away]
                if len({film["Director"] for film in close}) == 1:
                    return _attributes(close[0])
        return {}

    return find


def _attributes(film: dict[str, Any]) -> dict[str, Any]:
    people = {"director": _listed(film["Director"]), "cast": _listed(film["Cast"])[:CAST_NAMES]}
    places = {"country": _listed(film["Country"])[:2], "language": _listed(film["Language"])[:2]}
    found: dict[str, Any] = {name: values for name, values in (people | places).items() if values}
    if film["Runtime"]:
        found["runtime"] = int(film["Runtime"])
    return found


def _listed(text: str | None) -> list[str]:
    return [part for part in (piece.strip() for piece in (text or "").split(",")) if part and part != "N/A"]
