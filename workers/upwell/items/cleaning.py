"""An item as it came in; the item as it is stored, and the text that the encoder reads, out. Pure.

Unicode NFC, no HTML, no control or direction-changing characters, single spaces: equal items give equal bytes.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from upwell.events.contracts import Item
from upwell.items.language import language

TEXT_CHARACTERS: Final = 2_000
"""An encoder reads a few hundred tokens; what lies beyond only costs time."""
ATTRIBUTE_CHARACTERS: Final = 200
ATTRIBUTE_VALUES: Final = 8

# A tag begins with a letter: "a < b" and "<3" are text. All patterns are linear in the text's length.
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)[^<>]*>")
_DECLARATION = re.compile(r"<[!?][^<>]*>")
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]+"
)
_SPACES = re.compile(r"\s+")
_INLINE: Final = frozenset("a abbr b bdi big cite code em font i ins mark s small span strong sub sup tt u wbr".split())
_LINK = re.compile(r"^(https?:|s3:|gs:|file:|data:|www\.)|^/\S*$", re.IGNORECASE)
_NOT_WORDS = re.compile(
    r"(^|_)(id|ids|url|uri|link|image|poster|hash|slug|isbn|asin|sku|ts|timestamp|price)$", re.IGNORECASE
)


def clean_text(text: str) -> str:
    """One line of plain text.

    >>> clean_text("Tom &amp; <b>Jerry</b><br>a  <3 story")
    'Tom & Jerry a <3 story'
    """
    if "<" in text:
        for opening, closing in (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>")):
            text = _without(text, opening, closing)
        text = _TAG.sub(lambda tag: "" if tag[1].lower() in _INLINE else " ", text)
        text = _DECLARATION.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    text = unicodedata.normalize("NFC", text)
    return _SPACES.sub(" ", _INVISIBLE.sub(" ", text)).strip()


def _without(text: str, opening: str, closing: str) -> str:
    """`text` without what stands between the marks, up to the first opening that nothing closes."""
    if opening not in (folded := text.lower()) or len(folded) != len(text):
        return text
    kept, position = [], 0
    while (start := folded.find(opening, position)) >= 0 and (end := folded.find(closing, start)) >= 0:
        kept.append(text[position:start])
        position = end + len(closing)
    return " ".join([*kept, text[position:]])


def clean_item(item: Item) -> Item:
    """The item as it is stored: texts cleaned, empty and repeated categories left out, its language told where it says
    none and its words are enough."""
    categories = [name for name in map(clean_text, item.categories) if name]
    title, description = clean_text(item.title), clean_text(item.description)
    return msgspec.structs.replace(
        item,
        title=title,
        description=description,
        language=language(f"{title}. {description}" if description else title, item.language.strip()),
        categories=list(dict.fromkeys(categories)),
        attributes={key: _clean_value(value) for key, value in item.attributes.items()},
    )


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean_value(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _clean_value(inner) for key, inner in value.items()}
    return value


def encoder_text(title: str, categories: Sequence[str], description: str, attributes: Mapping[str, Any]) -> str:
    """What the text encoder reads of a cleaned item: most telling first, since it stops reading at its limit.

    Attributes count where they are words; numbers, links and identifiers say nothing about meaning. Keys are sorted:
    a store may give them back in another order.
    """
    parts = [title, ", ".join(categories), description]
    for key in sorted(attributes):
        value = attributes[key]
        values = value if isinstance(value, list) else [value]
        words = [
            v for v in values if isinstance(v, str) and v and not v.replace(".", "").isdigit() and not _LINK.match(v)
        ]
        if words and not _NOT_WORDS.search(key):
            parts.append(f"{key.replace('_', ' ')}: {', '.join(words[:ATTRIBUTE_VALUES])[:ATTRIBUTE_CHARACTERS]}")
    return ". ".join(part.rstrip(".") for part in parts if part)[:TEXT_CHARACTERS]


def quality(item: Item) -> float:
    """How much of an item is known, 0 to 1: a title is half of it, categories and anything further a quarter each."""
    return 0.5 * bool(item.title) + 0.25 * bool(item.categories) + 0.25 * bool(item.description or item.attributes)
