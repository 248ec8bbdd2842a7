"""Broken builds of the interactions worker, for the proof that the verifier sees what they break.

    python tests/faults/mutants.py MUTATION worker interactions --slot 0

is `upwell worker interactions --slot 0` with one thing changed in this process: the product has no switch for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from upwell.bus.consumer import Partition
from upwell.bus.transactions import Output, Transactions
from upwell.interactions.ownership import Ownership
from upwell.store import profiles

SWALLOWED = 7
"""Each so many-th transaction loses its outputs."""
BETWEEN_S = 0.2


def none() -> None:
    """The build as it is."""


def ignores_watermark() -> None:
    """Takeover goes on at the committed offset, whatever the stored profiles contain."""
    takeover = Ownership.takeover

    def forgetful(self: Ownership, partitions: Sequence[Partition]) -> dict[Partition, int]:
        takeover(self, partitions)
        for partition in partitions:
            at = self.live_from[partition.number]
            self.applied_to[partition.number] = self.state[partition.number] = at
        return {partition: self.live_from[partition.number] for partition in partitions}

    Ownership.takeover = forgetful  # type: ignore[method-assign]


def flushes_unasked() -> None:
    """A flush looks neither at the epoch nor at the watermark that it believes to be there."""
    whole = profiles.sql

    def unguarded(name: str) -> str:
        statement = whole(name)
        if name == "advance_watermarks":
            for guard in ("AND held.epoch = moved.epoch", "AND held.next_offset = moved.stored"):
                assert guard in statement
                statement = statement.replace(guard, "")
        return statement

    profiles.sql = unguarded


def commits_first() -> None:
    """The offsets are committed before the outputs are produced."""
    commit = Transactions.commit

    def hasty(self: Transactions, outputs: Iterable[Output], offsets: Sequence[Any] = (), metadata: Any = None) -> None:
        commit(self, (), offsets, metadata)
        time.sleep(BETWEEN_S)
        commit(self, outputs)

    Transactions.commit = hasty  # type: ignore[method-assign]


def swallows() -> None:
    """Now and then a batch's outputs are not published, and its offsets are."""
    commit, numbers = Transactions.commit, count(1)

    def forgetful(
        self: Transactions, outputs: Iterable[Output], offsets: Sequence[Any] = (), metadata: Any = None
    ) -> None:
        commit(self, () if next(numbers) % SWALLOWED == 0 else outputs, offsets, metadata)

    Transactions.commit = forgetful  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    mutation.__name__: mutation for mutation in (none, ignores_watermark, flushes_unasked, commits_first, swallows)
}

if __name__ == "__main__":
    MUTATIONS[sys.argv.pop(1)]()
    from upwell.cli.main import main

    main()
