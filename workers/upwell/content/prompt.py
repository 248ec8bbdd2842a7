"""Facts about one item, and why it is recommended, in; the prompt of the text generator out. Pure.

The one place where the prompt format is defined: the content worker asks with it and `upwell train writer` teaches
with it. Facts are delimited data: a value can neither leave its line nor open or close the block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from upwell.content.language import primary

FORMAT_VERSION: Final = 1
"""Raised with every change that asks for a newly taught adapter."""

SHOWN_PROMPT: Final = "Say what this shows."
"""The prompt of an item that no words describe: its vector stands behind it."""

MAX_VALUE: Final = 100
"""Characters of one fact in the prompt."""
MAX_DESCRIPTION: Final = 200
MAX_VALUES: Final = 3
"""Values of one attribute that has many (a cast of forty would only cost time)."""
MAX_ATTRIBUTES: Final = 7
MAX_BECAUSE: Final = 2
MAX_CATEGORIES: Final = 4

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
_SPACES = re.compile(r"\s+")
_DELIMITERS = re.compile(r"-{3,}|<\|[^>]*\|?>?|\|>")
_URL = re.compile(r"^(https?:|s3:|file:|www\.)|^/\S*$", re.IGNORECASE)
_YEAR_IN_TITLE = re.compile(r"\s*\((\d{4})\)\s*$")
_ARTICLE_LAST = re.compile(r"^(?P<rest>.+), (?P<article>The|A|An|Le|La|Les|L'|Il|El|Das|Der|Die)$")
_NOT_A_FACT = re.compile(
    r"(^|_)(id|ids|url|uri|link|image|poster|hash|slug|isbn|asin|sku|ts|timestamp)$", re.IGNORECASE
)
_YEAR_KEYS = ("year", "release_year", "released", "release_date", "published", "publication_year")
_RUNTIME_KEYS = ("runtime", "duration", "length")
_EMPTY = {"", "-", "n/a", "na", "nan", "none", "null", "unknown"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What may be said about an item. Build it with `facts_of` where the values come from outside."""

    title: str
    year: int | None = None
    categories: Sequence[str] = ()
    attributes: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    description: str = ""


def clean(value: object, limit: int = MAX_VALUE) -> str:
    """One line of text without control characters and delimiters, cut at a word near `limit` characters."""
    text = _SPACES.sub(" ", _CONTROL.sub(" ", str(value)))
    text = _SPACES.sub(" ", _DELIMITERS.sub(" ", text)).strip()
    if len(text) <= limit:
        return text
    cut = text[:limit]
    return cut.rsplit(" ", 1)[0].rstrip(" ,;:") if " " in cut[limit // 2 :] else cut


def display_title(title: str) -> tuple[str, int | None]:
    """The title as one would say it, and the year where the title ends with one.

    >>> display_title("Usual Suspects, The (1995)")
    ('The Usual Suspects', 1995)
    """
    title = clean(title)
    year = None
    if (m := _YEAR_IN_TITLE.search(title)) and m.start() > 0:
        title, year = title[: m.start()], int(m.group(1))
    if m := _ARTICLE_LAST.match(title):
        article = m.group("article")
        title = f"{article}{m.group('rest')}" if article.endswith("'") else f"{article} {m.group('rest')}"
    return title, year


def facts_of(
    title: str,
    categories: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
    description: str = "",
) -> Facts:
    """The facts of an item event: values cleaned; empty ones, links, identifiers and objects left out, the year found.

    A list stays a list; a text with commas in an attribute stays one text, except for people (`cast`, `director`, …),
    where every name has to be found on its own.
    """
    shown, year = display_title(title)
    kept: dict[str, str | list[str]] = {}
    for key, value in (attributes or {}).items():
        name = clean(key, 40).lower().replace(" ", "_")
        values = [clean(v) for v in value] if isinstance(value, list | tuple | set) else [clean(value)]
        values = [v for v in values if v.lower() not in _EMPTY and not _URL.match(v)]
        if not name or not values or value is None or isinstance(value, Mapping) or _NOT_A_FACT.search(name):
            continue
        if name in _YEAR_KEYS and (m := re.search(r"\b(1[5-9]\d\d|20\d\d)\b", values[0])):
            year = year or int(m.group(1))
        elif name in _RUNTIME_KEYS and re.fullmatch(r"\d+(\.0+)?", values[0]):
            kept[name] = f"{int(float(values[0]))} minutes"
        elif name in PEOPLE:
            kept[name] = [p for v in values for p in (s.strip() for s in re.split(r"[,;|]", v)) if p]
        else:
            kept[name] = values if len(values) > 1 else values[0]
    named = [c for c in (clean(c, 40) for c in categories) if c.lower() not in _EMPTY]
    return Facts(shown, year, named, kept, clean(description, MAX_DESCRIPTION))


PEOPLE: Final = frozenset(
    "director directors directed_by cast actors stars starring writer writers author authors artist artists "
    "composer developer designer narrator host chef band".split()
)
"""Attributes whose values are names of people or groups."""


def prompt(
    facts: Facts,
    because: Sequence[str] = (),
    language: str = "en",
    *,
    reason: str = "",
    taste: Sequence[str] = (),
) -> str:
    """The user message for the generator; its chat template is applied where the model is served.

    `because`: titles of the reader's items that speak for this one. `reason`: `similar`, `taste`, `popular` or `new`;
    left out, it follows from what is given. `taste`: categories that the reader likes.
    """
    lines = ["Recommend this item to the reader in one or two sentences. Use only these facts.", "---"]
    lines += fact_lines(facts)
    lines.append("---")
    lines.append("reason: " + reason_line(because, reason=reason, taste=taste))
    if language and primary(language) != "en":
        lines.append(f"language: {clean(language, 20)}")
    return "\n".join(lines)


def fact_lines(facts: Facts) -> list[str]:
    """A line per fact, `name: value`."""
    lines = [f"title: {clean(facts.title)}"]
    if facts.year is not None:
        lines.append(f"year: {facts.year}")
    if facts.categories:
        lines.append("categories: " + ", ".join(clean(c, 40) for c in facts.categories[:MAX_CATEGORIES]))
    for key, value in list(facts.attributes.items())[:MAX_ATTRIBUTES]:
        values = [value] if isinstance(value, str) else list(value)[:MAX_VALUES]
        lines.append(f"{clean(key, 40).replace(':', ' ')}: " + ", ".join(clean(v) for v in values))
    if facts.description:
        lines.append("description: " + clean(facts.description, MAX_DESCRIPTION))
    return lines


def reason_line(because: Sequence[str], *, reason: str = "", taste: Sequence[str] = ()) -> str:
    """Why the item is recommended, in the words that the generator was taught."""
    match reason_kind(because, reason, taste):
        case "similar":
            return "the reader liked " + "; ".join(clean(b) for b in because[:MAX_BECAUSE])
        case "taste":
            return "the reader likes " + ", ".join(clean(t, 40) for t in taste[:MAX_BECAUSE])
        case "popular":
            return "popular with others now"
        case "new":
            return "new here"
        case _:
            return "fits the reader"


def reason_kind(because: Sequence[str], reason: str = "", taste: Sequence[str] = ()) -> str:
    """`similar`, `taste`, `popular`, `new` or empty: what is claimed has to have its evidence."""
    if reason == "taste" and taste:
        return "taste"
    if reason in ("popular", "new"):
        return reason
    if because:
        return "similar"
    return "taste" if taste else ""
