"""What the workers' logs say of each fault: who took the partitions over, and what a zombie was refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ASSIGNED = "partitions.assigned"
RELEASED = "partitions.released"
REFUSED = frozenset({"transaction.aborted", "flush.refused"})
FENCED = "was fenced"
AFTER_S = 15.0
"""A zombie is heard so long after it was woken."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a worker's log; what is no JSON is `words`, at the time of the line before."""

    time: float
    """Unix seconds."""
    fields: dict[str, Any]
    words: str

    @property
    def event(self) -> str:
        return str(self.fields.get("event", ""))

    @property
    def partitions(self) -> set[tuple[str, int]]:
        """Of an assignment."""
        return {(topic, number) for topic in self.fields["topics"] for number in self.fields["partitions"]}


def lines(log: Path, begin: int = 0) -> Iterator[Line]:
    """The lines of a worker's log, from a byte on."""
    time = 0.0
    for raw in log.read_bytes()[begin:].decode(errors="replace").splitlines() if log.exists() else ():
        try:
            fields = json.loads(raw)
            time = datetime.fromisoformat(fields["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError):
            fields = {}
        yield Line(time, fields, raw)


def moved(own: Iterable[Line], others: Iterable[Iterable[Line]], begin: float, end: float) -> bool:
    """Whether another worker was given a partition between two times that this one had before."""
    held: set[tuple[str, int]] = set()
    for line in own:
        if line.event == ASSIGNED and line.time < begin:
            held = line.partitions
    return any(
        line.event == ASSIGNED and begin <= line.time <= end and line.partitions & held
        for other in others
        for line in other
    )


def refused(own: Iterable[Line], woken: float) -> bool:
    """Whether a worker that was woken then had a write refused: by Kafka (its transaction), or by Postgres (its flush)."""
    return any(line.event in REFUSED or FENCED in line.words for line in own if woken <= line.time <= woken + AFTER_S)


def dropped(own: Iterable[Line], woken: float) -> bool:
    """Whether a worker that was woken then learned that its partitions are another's, and dropped all it held of them."""
    return any(line.event == RELEASED and line.fields["lost"] for line in own if line.time >= woken)
