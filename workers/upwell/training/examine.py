"""A writer and films that it has never seen in, its marks out: share of faithful texts, how varied they are, how long.

The same check decides that decides in the content worker.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from upwell.content.kinds import check_of
from upwell.content.prompt import facts_of
from upwell.training.pairs import OTHER_KINDS, Film, Lesson, of_kind, title_key

CAST: Final = 3


@dataclass(frozen=True, slots=True)
class Marks:
    """What an examination found. `faithful` counts first candidates that pass the check."""

    texts: int
    faithful: float
    tokens_per_text: float
    distinct_2: float
    """Different word pairs as a share of all, over texts whose facts are replaced by their kind."""
    distinct_3: float
    shapes: int
    """Different sentence shapes: texts whose facts are replaced by their kind."""
    refused: dict[str, int]
    """Texts refused, by the first reason's kind."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answer:
    question: Lesson
    text: str
    tokens: int
    problems: tuple[str, ...]


def questions(unseen: Sequence[Film], shown: set[str], count: int, seed: int, *, kinds: bool = False) -> list[Lesson]:
    """Films with all facts that the demo has, with one or two liked films of the same genre as the reason; films that
    the demo shows first. `kinds`: all kinds of texts in turn, instead of recommendations alone, with questions and
    reviews in words that no lesson holds. The text of a recommendation is empty: it is the writer's to give.
    """
    rng = random.Random(seed)
    known = [f for f in unseen if {"director", "cast"} <= f.attributes.keys() and f.year]
    films = [f for f in known if title_key(f.title) in shown] or known
    asked = []
    for film in rng.sample(films, min(count, len(films))):
        near = [
            f.title for f in rng.sample(films, min(40, len(films))) if set(f.genres) & set(film.genres) and f != film
        ]
        given = {
            key: film.attributes[key] for key in ("director", "cast", "runtime", "country") if key in film.attributes
        }
        given["cast"] = given["cast"].split(", ")[:CAST]
        facts = facts_of(film.title, film.genres[:3], given | {"year": film.year})
        because = tuple(near[: rng.choice((1, 1, 2))])
        asked.append(Lesson(facts, because, "similar" if because else "", (), ""))
    if not kinds:
        return asked
    turns = itertools.cycle((None, *OTHER_KINDS))
    return [one if (kind := next(turns)) is None else of_kind(one, kind, rng, examined=True) for one in asked]


def examine(asked: Sequence[Lesson], write: Callable[[Sequence[str]], list[tuple[str, int]]]) -> list[Answer]:
    """Answers to all questions; `write` takes prompts and gives (text, tokens) each."""
    written = write([question.prompt() for question in asked])
    answers = []
    for question, (text, tokens) in zip(asked, written, strict=True):
        problems = check_of(text, question.asked())
        answers.append(Answer(question, text, tokens, tuple(problems)))
    return answers


def marks(answers: Sequence[Answer]) -> Marks:
    shapes = [shape(a.text, a.question) for a in answers]
    n = max(1, len(answers))
    return Marks(
        texts=len(answers),
        faithful=sum(not a.problems for a in answers) / n,
        tokens_per_text=sum(a.tokens for a in answers) / n,
        distinct_2=distinct(shapes, 2),
        distinct_3=distinct(shapes, 3),
        shapes=len(set(shapes)),
        refused=dict(Counter(a.problems[0].split(":")[0] for a in answers if a.problems)),
    )


def by_kind(answers: Sequence[Answer]) -> dict[str, Marks]:
    """Marks of each kind of text."""
    kinds = dict.fromkeys(answer.question.kind for answer in answers)
    return {str(kind): marks([a for a in answers if a.question.kind is kind]) for kind in kinds}


def distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words as a share of all (distinct-n, Li et al. 2016); 0 where there are none."""
    grams = [tuple(words[i : i + n]) for text in texts for words in [text.split()] for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def shape(text: str, lesson: Lesson) -> str:
    """The text with every fact replaced by its kind, lower case: `since you liked [liked], try [title], …`."""
    facts = lesson.facts
    parts = [(facts.title, "[title]"), *((b, "[liked]") for b in lesson.because)]
    parts += [(str(facts.year), "[year]")] if facts.year is not None else []
    parts += [(c, "[category]") for c in (*facts.categories, *lesson.taste)]
    for key, value in facts.attributes.items():
        parts += [(v, f"[{key}]") for v in ([value] if isinstance(value, str) else value)]
    folded = text.lower()
    for value, kind in sorted(parts, key=lambda part: -len(part[0])):
        folded = folded.replace(value.lower(), kind)
    for pair in (" and ", ", "):
        for kind in {kind for _, kind in parts}:
            while f"{kind}{pair}{kind}" in folded:
                folded = folded.replace(f"{kind}{pair}{kind}", kind)
    return folded
