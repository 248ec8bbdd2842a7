"""Lessons of a batch in, records of `statistics` out; and back: what the ranking learns from all users, on the wire.

Rows are a worker's own, so records carry item ids, each once. What is learned is what was written: numbers are rounded
before anybody learns from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Lesson
from upwell.ranking import learner
from upwell.ranking.learner import STATE, Lessons, Tuning

LARGEST: Final = 1e6
"""Valences and slopes are far below it; what is not would spoil what all workers have learned."""
DIGITS: Final = 4
"""Of gradients and valences."""
MOST_CHARACTERS: Final = 65_536
"""Of a record's ids: a lesson may name a dozen items that no other one names."""


class Taught:
    """What the events of one batch teach, in log order."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self.rows = learner.lessons(64, tuning)
        self.count = 0

    def place(self) -> int:
        """Where the next lesson goes; it is there from now on."""
        if self.count == len(self.rows.item):
            more = learner.lessons(2 * self.count, self._tuning)
            for into, held in zip(more, self.rows, strict=True):
                into[: self.count] = held
            self.rows = more
        self.count += 1
        return self.count - 1

    def records(self, ids: Sequence[str], most: int) -> Iterator[tuple[list[str], list[Lesson]]]:
        """(item ids, lessons that name them by their place there), at most so many lessons a record, and about
        `MOST_CHARACTERS` of ids."""
        numbers, told, named = dict[int, int](), list[Lesson](), 0
        for at in range(self.count):
            before = len(numbers)
            told.append(self._lesson(at, numbers))
            named += sum(len(ids[row]) for row in islice(reversed(numbers), len(numbers) - before))
            if len(told) == most or named >= MOST_CHARACTERS or at == self.count - 1:
                yield [ids[row] for row in numbers], told
                numbers, told, named = {}, [], 0

    def _lesson(self, at: int, numbers: dict[int, int]) -> Lesson:
        rows, held = self.rows, int(self.rows.held[at])
        soon = sum(1 << back for back in range(held) if rows.soon[at, back])
        return Lesson(
            numbers.setdefault(int(rows.item[at]), len(numbers)),
            round(float(rows.valence[at]), DIGITS),
            int(rows.stage[at]),
            [numbers.setdefault(row, len(numbers)) for row in rows.before[at, :held].tolist()],
            [round(valence, DIGITS) for valence in rows.before_valence[at, :held].tolist()],
            soon,
            [round(slope, DIGITS) for slope in rows.gradient[at].tolist()] if rows.taught[at] else [],
        )


def read(ids: Sequence[int], given: Sequence[Lesson], tuning: Tuning, stages: int) -> tuple[Lessons, int]:
    """Lessons of a record, for a worker whose rows of the record's items are `ids`.

    Raises:
        ValueError: they are of another tuning, or name what is not there.
    """
    found = learner.lessons(len(given), tuning)
    scorers, most = found.gradient.shape[1], found.before.shape[1]
    for at, lesson in enumerate(given):
        held = len(lesson.before)
        named = [lesson.item, *lesson.before]
        if held > most or held != len(lesson.valences) or len(lesson.gradient) not in (0, scorers):
            raise ValueError(f"a lesson of {held} events and {len(lesson.gradient)} slopes: made by another release")
        if not all(abs(number) <= LARGEST for number in (lesson.valence, *lesson.valences, *lesson.gradient)):
            raise ValueError("a lesson holds a number that no worker writes")
        if min(named) < 0 or max(named) >= len(ids) or not 0 <= lesson.stage < stages:
            raise ValueError(f"a lesson names item {max(named)} of {len(ids)}, or stage {lesson.stage} of {stages}")
        found.item[at], found.valence[at], found.stage[at] = ids[lesson.item], lesson.valence, lesson.stage
        found.held[at] = held
        found.before[at, :held] = [ids[number] for number in lesson.before]
        found.before_valence[at, :held] = lesson.valences
        found.soon[at, :held] = [bool(lesson.soon >> back & 1) for back in range(held)]
        if lesson.gradient:
            found.taught[at], found.gradient[at] = True, lesson.gradient
    return found, len(given)


class Array(msgspec.Struct, array_like=True):
    """An array as its bytes."""

    dtype: str
    shape: list[int]
    data: bytes


def packed(state: Mapping[str, NDArray[Any]], items: int, tuning: Tuning) -> dict[str, Array]:
    """The first `items` items of a learner's state, empty places of neighbours left out; what it was learned with."""
    places = tuning.neighbours
    filled = state["filled"][:items]
    held = np.arange(places) < filled[:, None]
    cut = {
        **{name: state[name] for name in STATE},
        "constants": learner.constants(tuning),
        "neighbour": state["neighbour"].reshape(-1, places)[:items][held],
        "weight": state["weight"].reshape(-1, places, 4)[:items][held],
        "popular_at": state["popular_at"][:, :items],
        **{name: state[name][:items] for name in ("filled", "counts", "likes", "popular")},
    }
    return {name: Array(value.dtype.str, list(value.shape), value.tobytes()) for name, value in cut.items()}


def unpacked(held: Mapping[str, Array], tuning: Tuning) -> dict[str, NDArray[Any]]:
    """What `packed` packed, as `learner.restore` takes it.

    Raises:
        ValueError, KeyError: it is of another shape, or was learned with another tuning.
    """
    found = {name: np.frombuffer(each.data, each.dtype).reshape(each.shape) for name, each in held.items()}
    if not np.array_equal(found.pop("constants"), learner.constants(tuning)):
        raise ValueError("the snapshot was learned with another tuning")
    items, places = len(found["counts"]), tuning.neighbours
    there = np.arange(places) < found["filled"][:, None]
    neighbour, weight = np.zeros((items, places), np.uint32), np.zeros((items, places, 4), np.float32)
    neighbour[there], weight[there] = found["neighbour"], found["weight"]
    return found | {"neighbour": neighbour.ravel(), "weight": weight.ravel()}
