"""Texts that passed in; the one that is closest to its user out. Pure.

Where closeness is not known (no profile, no encoder), the text that tells most facts is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from upwell.content.prompt import Facts

ALIKE: Final = 2
"""Decimals of relevance that count: texts that differ by less are alike, and facts decide."""
MOST_FACTS: Final = 3
"""More facts are no better text."""


def best(texts: Sequence[str], facts: Facts, relevance: Sequence[float] | None = None) -> int:
    """Place of the text with the largest relevance; of those alike, of the one that uses most facts, then the first.

    Args:
        texts: at least one.
        relevance: of each, as `ranking.relevance.relevance` gives it; None where it is not known.
    """

    def worth(i: int) -> tuple[float, int, int]:
        close = round(relevance[i], ALIKE) if relevance is not None else 0.0
        return close, min(specific(texts[i], facts), MOST_FACTS), -i

    return max(range(len(texts)), key=worth)


def specific(text: str, facts: Facts) -> int:
    """How many facts besides the title the text uses."""
    folded = text.casefold()
    said = [str(facts.year)] if facts.year is not None else []
    said += list(facts.categories)
    for value in facts.attributes.values():
        said += [value] if isinstance(value, str) else list(value)
    return sum(1 for fact in said if fact.casefold() in folded)
