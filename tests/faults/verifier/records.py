"""One record as a reader of the log sees it, and what the verifier says of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

SHOWN = 20
"""Violations of each rule that are kept with their words; all are counted."""


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """`place.topic` is the canonical name; `time` is the log's, ms since the epoch."""

    place: Place
    key: bytes | None
    value: bytes | None
    time: int = 0
    headers: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken, and where a reader can see it; `place` None where only a table shows it."""

    rule: str
    place: Place | None
    words: str

    def __str__(self) -> str:
        where = "" if self.place is None else f"{self.place.topic} [{self.place.partition}] @{self.place.offset}: "
        return f"{self.rule}: {where}{self.words}"


@dataclass
class Findings:
    """Broken rules by name, events lost and doubled."""

    lost: int = 0
    doubled: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    shown: list[Violation] = field(default_factory=list)

    def add(self, rule: str, place: Place | None, words: str, *, lost: int = 0, doubled: int = 0) -> None:
        self.lost += lost
        self.doubled += doubled
        self.broken[rule] += 1
        if self.broken[rule] <= SHOWN:
            self.shown.append(Violation(rule, place, words))

    @property
    def whole(self) -> bool:
        """No rule is broken."""
        return not self.broken
