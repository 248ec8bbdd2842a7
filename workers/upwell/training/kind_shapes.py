"""Facts in; a subject line, a description, a question with its answer, or reviews with their summary out.

What the writer is taught of the kinds beside the recommendation. Nothing is said that the facts, or the reviews, do not
hold. Pure and seeded.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from upwell.content.kinds import LIMITS, NOT_SAID, Asked, Kind, answering
from upwell.content.prompt import Facts
from upwell.training.shapes import EXTRAS, MAINS, capitalised, lowered, needs, pick, slots_of

_SUBJECTS: Final = (
    "{T}, {G} from {Y}", "{T}: {GS}", "Tonight: {T}", "{D}'s {T}", "{T} by {D}", "{T} by {A}", "{G}: {T}", "{T} ({Y})",
    "{T} from {O}", "{T}, {G} with {C}", "Next up: {T}", "{R} of {GS}: {T}", "Now for {T}", "{T} for {FS}", "Made for {FS}: {T}",
    "After {B}: {T}", "You liked {B}: {T}", "From {B} to {T}", "More {X}: {T}", "{X} for you: {T}", "Your {X}: {T}",
    "A look at {T}", "One for you: {T}", "{T}, {D}'s {g}", "Time for {T}", "Have you tried {T}?",
)  # fmt: skip
_LEADS: Final = ("", "", "for you: ", "in short: ", "what it is: ")
_ASKS: Final[Mapping[str, tuple[str, ...]]] = {
    "director": ("Who directed it?", "Who is the director?", "Who made this?"),
    "cast": ("Who stars in it?", "Who is in the cast?", "Which actors are in it?"),
    "author": ("Who wrote it?", "Who is the author?"), "runtime": ("How long is it?", "What is the runtime?"),
    "year": ("When did it come out?", "What year is it from?"), "country": ("Where was it made?", "Which country is it from?"),
    "language": ("What language is it in?", "Which language is it?"), "price": ("What does it cost?", "How much is it?"),
    "brand": ("Which brand is it?", "Who makes it?"), "material": ("What is it made of?", "Which material is it?"),
    "colour": ("What colour is it?",), "weight": ("How heavy is it?", "What is the weight?"),
    "categories": ("What kind is it?", "What genre is it?"), "pages": ("How many pages has it?",),
}  # fmt: skip
_ANSWERS: Final[Mapping[str, tuple[str, ...]]] = {
    "director": ("It was directed by {V}.", "{V} directed it.", "The director is {V}."),
    "cast": ("It stars {V}.", "{V} can be seen in it.", "The cast includes {V}."),
    "author": ("It was written by {V}.", "The author is {V}."), "runtime": ("It runs {V}.", "It lasts {V}."),
    "year": ("It came out in {V}.", "It is from {V}."), "country": ("It was made in {V}.", "It comes from {V}."),
    "language": ("It is in {V}.", "The language is {V}."), "price": ("It costs {V}.", "The price is {V}."),
    "brand": ("It is made by {V}.", "The brand is {V}."), "material": ("It is made of {V}.", "The material is {V}."),
    "colour": ("It is {V}.", "The colour is {V}."), "weight": ("It weighs {V}.", "The weight is {V}."),
    "categories": ("It is filed under {V}.",), "pages": ("It has {V} pages.",),
}  # fmt: skip
_SAYS: Final = (
    ("the pace", ("moves along well", "is slow in the middle", "never lets up", "takes its time")),
    ("the sound", ("is clear and warm", "is too quiet", "fills the room")),
    ("the ending", ("came as a surprise", "felt rushed", "stayed with me")),
    ("the quality", ("is better than expected", "is solid", "is poor for the money")),
    ("the design", ("is simple and neat", "feels dated", "is lovely")),
    ("the story", ("is touching", "is hard to follow", "is told with care")),
    ("the size", ("is just right", "is smaller than expected")),
    ("the price", ("is fair", "is too high")),
)  # fmt: skip
_REVIEWS: Final = (
    "{S} {V}.",
    "I think {S} {V}.",
    "For me {S} {V}, and that is what counts.",
    "{S} {V}. I use it often.",
)
_ONE: Final = ("Reviewers say {A}.", "Reviews mention that {A}.", "According to reviewers, {A}.")
_TWO: Final = (
    "Reviewers say {A} and {B}.", "{A}, reviewers say, while {B}.", "Reviews mention that {A}; others say {B}.",
    "Some reviewers find {A}, and others say {B}.",
)  # fmt: skip
UNANSWERED: Final = 0.3
"""Share of questions that the facts do not answer."""


def of_kind(
    kind: Kind, facts: Facts, because: Sequence[str], reason: str, taste: Sequence[str], rng: random.Random
) -> tuple[Asked, str]:
    """What is asked, and the text that answers it; the reason is left out where the text does not give it."""
    match kind:
        case Kind.SUBJECT:
            asked = Asked(kind, facts, tuple(because), reason, tuple(taste))
            return asked, _subject(asked, rng)
        case Kind.DESCRIPTION:
            return Asked(kind, facts, tuple(because), reason, tuple(taste)), _description(facts, rng)
        case Kind.ANSWER:
            return _answer(facts, rng)
        case _:
            return _summary(facts, rng)


def _filled(shape: str, slots: Mapping[str, str]) -> str:
    return capitalised(shape.format(**slots))


def _subject(asked: Asked, rng: random.Random) -> str:
    slots = slots_of(asked.facts, asked.because, asked.taste, rng)
    shapes = [s for s in _SUBJECTS if needs(s) <= slots.keys()]
    lines = [line for s in shapes if len(line := _filled(s, slots)) <= LIMITS[Kind.SUBJECT].max_chars]
    return rng.choice(lines) if lines else asked.facts.title


def _description(facts: Facts, rng: random.Random) -> str:
    slots = slots_of(facts, (), (), rng)
    used: set[str] = set()
    main = pick([m for m in MAINS if m.startswith("{T}")], slots, used, rng) or "{T} is here for you"
    extra = pick(EXTRAS, slots, used, rng) if rng.random() < 0.7 else None
    text = _filled(rng.choice(_LEADS) + main, slots) + "."
    return f"{text} {_filled(extra, slots)}" if extra else text


def _answer(facts: Facts, rng: random.Random) -> tuple[Asked, str]:
    keys = list(_ASKS)
    rng.shuffle(keys)
    unanswered = rng.random() < UNANSWERED
    for key in keys:
        question = rng.choice(_ASKS[key])
        values = answering(question, facts)
        if bool(values) != unanswered:
            value = " and ".join(values[:2]) if key != "categories" else " and ".join(lowered(v) for v in values[:2])
            text = rng.choice(_ANSWERS[key]).format(V=value) if values else NOT_SAID
            return Asked(Kind.ANSWER, facts, question=question), text
    question = "What does it cost?"
    return Asked(Kind.ANSWER, facts, question=question), NOT_SAID


def _summary(facts: Facts, rng: random.Random) -> tuple[Asked, str]:
    said = [(subject, rng.choice(claims)) for subject, claims in rng.sample(_SAYS, rng.choice((1, 2, 2, 3)))]
    reviews = [
        capitalised(rng.choice(_REVIEWS).format(S=subject, V=claim))
        for subject, claim in said
        for _ in range(rng.choice((1, 2)))
    ]
    rng.shuffle(reviews)
    clauses = [f"{subject} {claim}" for subject, claim in said]
    text = rng.choice(_ONE).format(A=clauses[0])
    if len(clauses) > 1:
        text = capitalised(rng.choice(_TWO).format(A=clauses[0], B=clauses[1]))
    return Asked(Kind.SUMMARY, facts, reviews=tuple(dict.fromkeys(reviews))), text
