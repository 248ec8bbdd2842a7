"""What is to be written, and about what, in; prompt, reasons to refuse a text, and template of its kind out. Pure.

Every text goes this way, whatever its `TextKind`. Facts are the only source; of a summary, the reviews are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from upwell.content.check import Limits, check
from upwell.content.prompt import Facts, clean, fact_lines, prompt, reason_kind, reason_line
from upwell.content.template import template, template_language
from upwell.events.contracts import TextKind
from upwell.events.validate import MAX_QUESTION, MAX_REVIEWS


@dataclass(frozen=True, slots=True)
class Asked:
    """A text that is wanted. `question` belongs to an answer, `reviews` to a summary; the rest as in `prompt.prompt`."""

    kind: TextKind
    facts: Facts
    because: tuple[str, ...] = ()
    reason: str = ""
    taste: tuple[str, ...] = ()
    question: str = ""
    reviews: tuple[str, ...] = ()
    language: str = "en"

    def given(self) -> tuple[str, ...]:
        """What somebody wrote for this text alone: it is nobody's catalogue, and anything may be in it."""
        return (self.question, *self.reviews) if self.question else self.reviews


READ_OF_REVIEW: Final = 160
"""Characters of one review in the prompt."""
NOT_SAID: Final = "The facts do not say that."
"""The answer where there is none. Nothing else may be said then."""
LIMITS: Final[Mapping[TextKind, Limits]] = {
    TextKind.RECOMMENDATION: Limits(),
    TextKind.SUBJECT: Limits(4, 60, 2, sentence=False),
    TextKind.DESCRIPTION: Limits(20, 400, 4),
    TextKind.ANSWER: Limits(2, 200, 2, named=False),
    TextKind.SUMMARY: Limits(20, 300, 3, named=False),
}
UNTOLD: Final[Mapping[TextKind, str]] = {
    TextKind.SUBJECT: "For you",
    TextKind.DESCRIPTION: "This cannot be described here.",
    TextKind.ANSWER: "This cannot be answered here.",
    TextKind.SUMMARY: "These reviews cannot be summarised here.",
}
"""Where facts, question or reviews are refused."""
_INSTRUCTIONS: Final[Mapping[TextKind, str]] = {
    TextKind.SUBJECT: "Write a subject line of at most 60 characters about this item. Use only these facts.",
    TextKind.DESCRIPTION: "Describe this item for the reader in one or two sentences. Use only these facts.",
    TextKind.ANSWER: f'Answer the question about this item from these facts, or say: "{NOT_SAID}"',
    TextKind.SUMMARY: "Summarise what reviewers say about this item in one or two sentences. Use only these reviews.",
}
_IT: Final = r"(?:it|this|that|one|the (?:film|movie|book|show|game|album|item))"
_ABOUT: Final[Mapping[str, str]] = {
    "director": r"direct(?:s|ed|ors?|ing)|who made|who is behind", "cast": r"stars?|starring|cast|act(?:ors?|resse?s?)|who plays|plays in|who is in it",
    "writer": r"writers?|wrote|written", "author": r"authors?|wrote|written",
    "runtime": rf"how long (?:is|does|was|will) {_IT}|runtime|running time|how many minutes", "price": rf"prices?|{_IT} costs?|how much (?:is|for|does) {_IT}",
    "year": r"what year|which year|how old|when (?:was|did|were|is it from)|released?|come out", "language": r"languages?",
    "country": r"where (?:was|is it from|is it made|does it come|do they make)|country|countries", "brand": r"brands?|who makes|manufacturer",
    "material": r"materials?|made (?:out )?of", "colour": r"colou?rs?", "weight": r"weights?|weighs?|how heavy",
    "categories": r"what kind is|(?:kind|sort) of (?:film|movie|book|thing|item|game|music)|genres?|categor(?:y|ies)|filed under",
}  # fmt: skip
"""What in a question asks for which fact; any other fact is asked for by its name."""
ALIASES: Final = {
    "directors": "director", "directed_by": "director", "actors": "cast", "starring": "cast", "stars": "cast",
    "writers": "writer", "authors": "author", "color": "colour", "duration": "runtime", "length": "runtime",
}  # fmt: skip
"""Other names of the same facts."""
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_SAYING: Final = frozenset(
    """about according also among both find finds found from have item many more most much only others overall people praise praised
    readers report review reviewed there reviewer reviewers reviews said says some that their them they this those though viewers what while
    with write writes mention mentions mixed opinions agree several praises liked adds another""".split()
)
"""What a summary may say without a review that says it."""
SUPPORTED: Final = 0.75
"""Share of a summary's other words that reviews must hold."""


def prompt_of(asked: Asked) -> str:
    """The user message for the generator. Facts, question and reviews are delimited data."""
    if asked.kind is TextKind.RECOMMENDATION:
        return prompt(asked.facts, asked.because, asked.language, reason=asked.reason, taste=asked.taste)
    lines = [_INSTRUCTIONS[asked.kind], "---"]
    if asked.kind is TextKind.SUMMARY:
        lines.append(f"title: {clean(asked.facts.title)}")
        lines += [f"review: {clean(review, READ_OF_REVIEW)}" for review in asked.reviews[:MAX_REVIEWS]]
    else:
        lines += fact_lines(asked.facts)
    lines.append("---")
    if asked.kind is TextKind.ANSWER:
        lines.append(f"question: {clean(asked.question, MAX_QUESTION)}")
    elif asked.kind is not TextKind.SUMMARY:
        lines.append("reason: " + reason_line(asked.because, reason=asked.reason, taste=asked.taste))
    return "\n".join(lines)


def check_of(text: str, asked: Asked) -> list[str]:
    """Reasons to refuse the text, as those of `check.check`; besides `answer` and `summary`. Empty: it passes."""
    facts, limits = asked.facts, LIMITS[asked.kind]
    if asked.kind is TextKind.ANSWER:
        values = answering(asked.question, facts)
        if text == NOT_SAID or not values:
            wrong = bool(values) if text == NOT_SAID else True
            return [f"answer: the facts {'say it' if values else 'do not say it'}"] if wrong else []
        problems = check(text, facts, (), asked.language, limits)
        if not any(value.casefold() in text.casefold() for value in values):
            problems.append("answer: not what was asked")
        return problems
    if asked.kind is TextKind.SUMMARY:
        source = " ".join(asked.reviews)
        reviewed = Facts(facts.title, facts.year, facts.categories, facts.attributes, source)
        return check(text, reviewed, (), asked.language, limits) + _unsupported(text, source, facts)
    return check(text, facts, asked.because, asked.language, limits, reason=asked.reason, taste=asked.taste)


def template_of(asked: Asked) -> str:
    """The text that answers where the model cannot: plain, and always faithful. Of `untold` facts it says nothing.

    Reviews are counted, not quoted: nobody has checked what they say.
    """
    facts = asked.facts
    title = clean(facts.title)
    kinds = " and ".join(clean(c, 40).lower() for c in facts.categories[:2])
    if not title and asked.kind is not TextKind.RECOMMENDATION:
        return UNTOLD[asked.kind]
    match asked.kind:
        case TextKind.RECOMMENDATION:
            return template(facts, asked.because, asked.language, reason=asked.reason, taste=asked.taste)
        case TextKind.SUBJECT:
            why = {"similar": "For you", "taste": "Your taste", "popular": "Popular now", "new": "New here"}
            line = f"{why.get(reason_kind(asked.because, asked.reason, asked.taste), 'For you')}: {title}"
            most = LIMITS[TextKind.SUBJECT].max_chars
            return line if len(line) <= most else clean(title, most)
        case TextKind.DESCRIPTION:
            told = [f"{title}{f' ({facts.year})' if facts.year is not None else ''}{f': {kinds}' if kinds else ''}."]
            for key, value in list(facts.attributes.items())[:2]:
                told.append(f"{key.replace('_', ' ').capitalize()}: {_listed(value)}.")
            return " ".join(told)
        case TextKind.ANSWER:
            values = answering(asked.question, facts)
            return f"{_listed(values)}." if values else NOT_SAID
        case _:
            one = len(asked.reviews) == 1
            number = ("no", "one", "two", "three", "four", "five", "six")[len(asked.reviews[:MAX_REVIEWS])]
            return f"There {'is' if one else 'are'} {number} {'review' if one else 'reviews'} of {title}."


def template_language_of(asked: Asked) -> str:
    """The language that `template_of` answers in: recommendations have templates in several."""
    return template_language(asked.language) if asked.kind is TextKind.RECOMMENDATION else "en"


def untold(asked: Asked) -> Asked:
    """The same without facts, reason and what was given: for a template where they were refused."""
    return Asked(asked.kind, Facts(""), language=asked.language)


def answering(question: str, facts: Facts) -> list[str]:
    """Values of the fact that the question asks for; empty where the facts do not say it.

    >>> answering("Who directed it?", Facts("Alien", 1979, [], {"director": "Ridley Scott"}))
    ['Ridley Scott']
    >>> answering("How much does it cost?", Facts("Alien", 1979))
    []
    """
    asked = clean(question, MAX_QUESTION).casefold()
    known: dict[str, list[str]] = {"categories": list(facts.categories)}
    if facts.year is not None:
        known["year"] = [str(facts.year)]
    known |= {key: [value] if isinstance(value, str) else list(value) for key, value in facts.attributes.items()}
    for key, values in known.items():
        name = key.replace("_", " ")
        stem = name.removesuffix("s").strip()
        # A name of no letters asks for nothing: its pattern would be found in any question.
        own = rf"{re.escape(stem)}(?:s|es)?" if stem else ""
        asks = "|".join(filter(None, (_ABOUT.get(ALIASES.get(key, key)), own)))
        if values and asks and re.search(rf"\b(?:{asks})\b", asked):
            return values
    return []


def _unsupported(text: str, source: str, facts: Facts) -> list[str]:
    """A summary of other things than the reviews speak of. Beginnings of words are compared: `moving`, `moved`."""
    # Without a title there is nothing to take out: a space would come between all letters.
    untitled = text.replace(facts.title, " ") if facts.title else text
    own = {word for word in _WORD.findall(untitled.casefold()) if word not in _SAYING}
    known = {word[:5] for word in _WORD.findall(source.casefold())}
    unknown = sorted(word for word in own if word[:5] not in known)
    if len(unknown) > (1 - SUPPORTED) * len(own):
        return [f"summary: no review says {', '.join(unknown)}"]
    return []


def _listed(value: str | Sequence[str]) -> str:
    values = [value] if isinstance(value, str) else list(value)[:3]
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " and " + values[-1]
