"""Candidate texts in, the best one that passes the check out, with the reasons that refused the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from upwell.content.kinds import Asked, check_of
from upwell.content.prompt import Facts


@dataclass(frozen=True, slots=True)
class Choice:
    """`index` of the chosen candidate, None where all were refused; `refused`: reasons per candidate, empty = passed."""

    index: int | None
    refused: tuple[tuple[str, ...], ...]

    @property
    def rejected(self) -> int:
        return sum(1 for reasons in self.refused if reasons)


def choose(candidates: Sequence[str], asked: Asked, recent: Sequence[str] = ()) -> Choice:
    """The passing candidate that uses most facts, and opens least like the reader's `recent` texts."""
    refused = tuple(tuple(check_of(text, asked)) for text in candidates)
    passing = [i for i, reasons in enumerate(refused) if not reasons]
    if not passing:
        return Choice(None, refused)
    openings = {_opening(text) for text in recent}

    def worth(i: int) -> tuple[bool, int, int]:
        return _opening(candidates[i]) not in openings, min(specific(candidates[i], asked.facts), 3), -i

    return Choice(max(passing, key=worth), refused)


def specific(text: str, facts: Facts) -> int:
    """How many facts besides the title the text uses."""
    folded = text.casefold()
    said = [str(facts.year)] if facts.year is not None else []
    said += list(facts.categories)
    for value in facts.attributes.values():
        said += [value] if isinstance(value, str) else list(value)
    return sum(1 for fact in said if fact.casefold() in folded)


def _opening(text: str) -> str:
    return " ".join(text.casefold().split()[:2])
