"""A generated text and the facts that it may use in, the reasons to refuse it out; an empty list passes. Pure.

Refuses what can be seen from the text and the facts alone: names, numbers, kinds and roles that no fact holds, a
reason that was not given, the wrong item, the wrong language, repetition, a broken form. It cannot see an invention
that uses small words only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from upwell.content import language as languages
from upwell.content.prompt import Facts, reason_kind


@dataclass(frozen=True, slots=True)
class Limits:
    """What a text may measure."""

    min_chars: int = 20
    max_chars: int = 400
    max_sentences: int = 4
    sentence: bool = True
    """Whether it has to end like one."""
    named: bool = True
    """Whether it has to name the item."""


_WORD = re.compile(r"\w+(?:['’.&/-]\w+)*", re.UNICODE)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SENTENCE_END = re.compile(r"[.!?…:]+[\"'”’)]*\s+|[\"“]\s*|^\W*")
_QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]{2,80})[\"“”«»]")
_POSSESSIVE = re.compile(r"['’]s?$")
_WRONG_ARTICLE = re.compile(r"\ba (?!one\b|once\b|eu)[aeio]\w")
_PRIVATE = re.compile(r"https?:|www\.|@\w|<\|?|\|>|#\w")
_PROMPT_LEAK = re.compile(r"\b(title|categories|reason|description):|---|\bthe reader\b|\bas an ai\b", re.IGNORECASE)

# What a sentence may begin with, though no fact holds it. A word that is not here and in no fact is taken for a name.
OPENERS: Final = frozenset(
    """
    a about after all also although among an and another any anyone are as at be because before being between both but
    by can chosen close come consider could curious did directed do does each enjoy enjoyed ever every everyone expect
    fans filed find first follow following for fresh from full get give given go going good had have having he her here
    his how i if in into is it its it's just keep know last later let liked liking long look looking loved made make
    many maybe meet more most much my need new newly next no not nothing now of on once one only or other others our
    out over part people perfect picked plenty popular put ready recommended right runs same see seeing set she should
    since so some someone something starring stars staying still such suggested suggestion take thanks that the their
    then there these they think this those though through time to try two until up was watch we were what when where
    whether which while who why will with work worth written would yes yet you your you'll you're you've also added
    almost already along around back best both brings came clear close comes deserves easy enough even filmed fits
    found great great half hence here's high how's includes instead it'll join left less like likely little lots makes
    might mixes mix must nice offers often old others own perhaps please rather read released round running seems short
    shows sits small somewhere soon start start still stay sure that's there's today together tonight too turn under
    according opinions reviewer reviewers reviews
    want well what's where's without you'd young your yours
    """.split()
)
# Kinds that must not be claimed without a fact. Only single words that name a kind of thing.
KINDS: Final = frozenset(
    """
    action comedy drama thriller horror western musical romance documentary adventure mystery fantasy animation crime
    biography noir sci-fi novel album game podcast recipe series sequel prequel remake trilogy anime
    """.split()
)
# Everyday words that name a kind where a kind of film follows: `a war drama`, but `a family that goes to war`.
_KIND_BEFORE: Final = re.compile(
    r"\b(family|war|history|historical|sports?|music|spy|superhero|heist|teen)(?= (?:film|movie|drama|comedy|thriller)\b)"
)
_YEAR_AS_NAME: Final = re.compile(r"\b(?:with|by|featuring|starring|features) \d{4}\b(?!['’])")
FILM_WORDS: Final = frozenset("film films movie movies".split())
FILM_KEYS: Final = frozenset("director directors directed_by cast actors starring stars".split())
# Claims about the world outside the facts.
CLAIMS: Final = re.compile(
    r"\b(oscar\w*|award\w*|acclaimed|best-?selling|bestseller|box office|nominated|true story|based on|critics|iconic|"
    r"legendary|masterpiece|highest|number one|blockbuster|debut)\b",
    re.IGNORECASE,
)
LIKED: Final = re.compile(
    r"\b(?:liked|enjoyed|loved|went for|because of|thanks to|company of|after|similar to|close to|go(?:es)? well with)\s+"
)
WHICH_YOU_LIKED: Final = re.compile(r"\.?,? which you (?:\w+ )?(?:liked|enjoyed|loved)\b")
ROLES: Final = (
    (re.compile(r"\b(?:directed by|director)\s+"), ("director", "directors", "directed_by")),
    (re.compile(r"\b(?:starring|featuring|cast includes|look out for|with(?= [^,.;:]{1,80} in the cast\b))\s+", re.IGNORECASE),
     ("cast", "actors", "starring", "stars", "artist", "artists", "host", "band")),
    (re.compile(r"\b(?:written by|author)\s+"), ("writer", "writers", "author", "authors")),
)  # fmt: skip


def check(
    text: str,
    facts: Facts,
    because: Sequence[str] = (),
    language: str = "en",
    limits: Limits = Limits(),
    *,
    reason: str = "",
    taste: Sequence[str] = (),
) -> list[str]:
    """Reasons to refuse the text, each beginning with its kind: `form`, `length`, `item`, `language`, `repetition`,
    `number`, `name`, `quote`, `kind`, `claim`, `role`, `reason`. Arguments as those of `prompt.prompt`.
    """
    folded = _fold(text)
    titles = [_fold(facts.title), *(_fold(b) for b in because)]
    own = _without(folded, [*titles, *(_fold(v) for v in [*_values(facts), *facts.categories, *taste])])
    problems = _form(text, own, limits)
    if problems:
        return problems
    if limits.named and not _holds(folded, titles[0]):
        problems.append(f"item: does not name {facts.title}")
    source = _source(facts, because, taste)
    known = _words(source)
    problems += _language(own, language)
    problems += _repetition(own)
    problems += _title_twice(folded, titles[0], [*titles[1:], *(_fold(value) for value in _values(facts))])
    problems += _value_twice(_without(folded, titles), facts)
    problems += _kind_twice(_without(folded, titles), facts, told=reason_kind(because, reason, taste) == "taste")
    if languages.primary(language) == "en" and _WRONG_ARTICLE.search(_without(folded, titles)):
        problems.append("form: `a` before a vowel")
    problems += _numbers(text, source)
    problems += _names(text, known, language)
    problems += [f"quote: {q!r}" for q in _QUOTED.findall(text) if _fold(q) not in _fold(source)]
    problems += _kinds(own, known, facts)
    problems += [f"claim: {c}" for c in CLAIMS.findall(own) if _fold(c) not in _fold(source)]
    problems += _roles(text, own, facts)
    problems += _reasons(folded, titles[0], because, reason_kind(because, reason, taste))
    return problems


def _form(text: str, own: str, limits: Limits) -> list[str]:
    problems = []
    if any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs", "Cn") for c in text):
        problems.append("form: control characters")
    if _PRIVATE.search(own) or _PROMPT_LEAK.search(own):
        problems.append("form: a link, a mark or a part of the prompt")
    if not limits.min_chars <= len(text) <= limits.max_chars:
        problems.append(f"length: {len(text)} characters; {limits.min_chars} to {limits.max_chars} are possible")
    if len(re.findall(r"[.!?…](?:\s|$)", text)) > limits.max_sentences + _initials(text):
        problems.append(f"length: more than {limits.max_sentences} sentences")
    if limits.sentence and text[-1:] not in ".!?…\"”'’)":
        problems.append("form: does not end like a sentence")
    if own.count("(") != own.count(")") or own.count('"') % 2:
        problems.append("form: an opened bracket or quote is not closed")
    return problems


def _initials(text: str) -> int:
    """Dots that end an abbreviation instead of a sentence: `J. R. R.`, `Dr.`, `vs.`."""
    return len(re.findall(r"\b(?:\w|Dr|Mr|Mrs|Ms|St|vs|Jr|Sr|Vol|No)\.\s", text))


def _fold(text: str) -> str:
    """For comparison: compatibility forms and quotes unified, case folded, spaces single."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("–", "-")
    return re.sub(r"\s+", " ", text).casefold().strip()


def _holds(folded: str, title: str) -> bool:
    """Whether the folded text holds the folded title as whole words; a final full stop of the title may be dropped."""
    title = title.rstrip(".")
    return re.search(r"(?<!\w)" + re.escape(title) + r"(?!\w)", folded) is not None if title else True


def _values(facts: Facts) -> list[str]:
    values = []
    for value in facts.attributes.values():
        values += [value] if isinstance(value, str) else list(value)
    return values


def _source(facts: Facts, because: Sequence[str], taste: Sequence[str]) -> str:
    """Everything that may be said, as one text."""
    keys = [key.replace("_", " ") for key in facts.attributes]
    year = [str(facts.year)] if facts.year is not None else []
    parts: Iterable[str] = (
        facts.title, *year, *facts.categories, *keys, *_values(facts), facts.description, *because, *taste,
    )  # fmt: skip
    return " | ".join(parts)


def _words(text: str) -> set[str]:
    """Folded words, with the parts of compounds (`sci-fi`, `noir`) and without possessive endings."""
    found = set()
    for word in _WORD.findall(_fold(text)):
        bare = _POSSESSIVE.sub("", word)
        found |= {word, bare, *re.split(r"['.&/-]", bare)}
    return found - {""}


def _without(folded: str, parts: Iterable[str]) -> str:
    """The text's own words: titles and values cut out, longest first; a mark stands where they were."""
    for part in sorted({p.rstrip(".") for p in parts if len(p) > 1}, key=len, reverse=True):
        folded = re.sub(r"(?<!\w)" + re.escape(part) + r"(?!\w)", " § ", folded)
    return folded


def _language(own: str, wanted: str) -> list[str]:
    found = languages.detect(own)
    expected = languages.primary(wanted)
    if found and found != expected:
        return [f"language: {found} instead of {expected}"]
    return []


def _repetition(own: str) -> list[str]:
    words = _WORD.findall(own)
    fours = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    if any(n > 1 for n in fours.values()) or re.search(r"\b(\w+) \1\b", own):
        return ["repetition: the same words again"]
    return []


def _value_twice(folded: str, facts: Facts) -> list[str]:
    """`with Bruce Campbell and Bruce Campbell`; a director who also plays may be told twice."""
    for value in {_fold(value) for value in _values(facts)}:
        if re.search(rf"(?<!\w){re.escape(value)}(?:,? and|,) {re.escape(value)}(?!\w)", folded):
            return [f"repetition: {value} again"]
    return []


def _title_twice(folded: str, title: str, others: Iterable[str]) -> list[str]:
    """`With Alien in mind, you might enjoy Alien.` Titles and names that hold the title are no second naming."""
    title = title.rstrip(".")
    longer = [part for part in others if part.rstrip(".") != title]
    times = len(re.findall(r"(?<!\w)" + re.escape(title) + r"(?!\w)", _without(folded, longer))) if title else 0
    return ["repetition: the item is named twice"] if times > 1 else []


def _kind_twice(untitled: str, facts: Facts, *, told: bool) -> list[str]:
    """`a comedy comedy`; or `…'s drama is a drama`, unless a kind is `told` again as the reason."""
    for word in sorted({_fold(category) for category in facts.categories}, key=len, reverse=True):
        whole = r"(?<!\w)" + re.escape(word) + r"(?!\w)"
        if len(re.findall(whole, untitled)) > (2 if told else 1) or f"{word} {word}" in untitled:
            return [f"repetition: {word} again"]
        untitled = re.sub(whole, "§", untitled)  # `fiction` is not counted in `science fiction`
    return []


def _numbers(text: str, source: str) -> list[str]:
    """Numbers must be in the facts as they stand: 90 is not supported by 1990."""
    allowed = set(_NUMBER.findall(source))
    allowed |= {n.rstrip("0").rstrip(".") for n in allowed if "." in n}
    return [f"number: {n}" for n in _NUMBER.findall(text) if n not in allowed]


def _names(text: str, known: set[str], language: str) -> list[str]:
    """Capitalised words that are in no fact. German writes nouns so: there only the first part of the check holds."""
    if languages.primary(language) not in ("en", "fr", "es", "it", "pt", "nl"):
        return []
    starts = {m.end() for m in _SENTENCE_END.finditer(text)} | {0}
    found = []
    for match in _WORD.finditer(text):
        word = match.group()
        if not word[0].isupper() and not (word[1:2].isupper() and len(word) > 2):
            continue
        bare = _POSSESSIVE.sub("", _fold(word))
        if bare in known or all(part in known for part in re.split(r"['.&/-]", bare) if part):
            continue
        opens = match.start() in starts
        if word == "I" or (opens and (_fold(word) in OPENERS or languages.primary(language) != "en")):
            continue
        found.append(f"name: {word}")
    return found


def _kinds(own: str, known: set[str], facts: Facts) -> list[str]:
    words = {w for word in _WORD.findall(own) for w in (word, word.rstrip("s"))}
    found = [f"kind: {w}" for w in sorted(words & KINDS) if w not in known and not any(k.startswith(w) for k in known)]
    found += [f"kind: {w}" for w in _KIND_BEFORE.findall(own) if not any(k[:5] == w.rstrip("s")[:5] for k in known)]
    if words & FILM_WORDS and not known & FILM_WORDS and not FILM_KEYS & set(facts.attributes):
        found.append("kind: film")
    return found


def _roles(text: str, own: str, facts: Facts) -> list[str]:
    """`directed by X`, where the facts know X in another role only; and the year in a name's place: `with 1995`."""
    found = []
    people: dict[str, set[str]] = {}
    for key, value in facts.attributes.items():
        for name in [value] if isinstance(value, str) else value:
            people.setdefault(name, set()).add(key)
    for pattern, keys in ROLES:
        for match in pattern.finditer(text):
            rest = text[match.end() :]
            for name, roles in people.items():
                if rest.startswith(name) and not roles & set(keys):
                    found.append(f"role: {match.group().strip()} {name}")
    found += [f"role: {words}" for words in _YEAR_AS_NAME.findall(own)]
    return found


def _reasons(folded: str, title: str, because: Sequence[str], kind: str) -> list[str]:
    """Nobody is told to have liked what is not known, nor the item itself."""
    found = []
    evidence = [_fold(b) for b in because]
    for match in LIKED.finditer(folded):
        rest = folded[match.end() :]
        if rest.startswith(title) and not any(rest.startswith(e) for e in evidence):
            found.append("reason: the item itself as its own reason")
    found += [
        "reason: told to have liked something else"
        for match in WHICH_YOU_LIKED.finditer(folded)
        if not any(folded[: match.start()].endswith(title.rstrip(".")) for title in evidence)
    ]
    if kind != "popular" and re.search(r"\bpopular\b|\bfavou?rite with others\b|\bmany others\b", folded):
        found.append("reason: popularity is not the reason")
    if re.search(r"\byou (?:\w+ )?(?:liked|enjoyed|loved)\b", folded) and kind != "similar":
        found.append("reason: no liked item was given")
    return found
