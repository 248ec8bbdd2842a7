"""Outcomes that stop a batch, by what a worker does about them."""

from __future__ import annotations


class BusError(Exception):
    """Base of all errors of the bus."""


class Aborted(BusError):
    """The transaction was aborted; nothing of the batch remains. Drop what it changed; the consumer has rewound."""


class Fenced(BusError):
    """Another worker runs in this slot, or owns these partitions now: stop; what was in hand was never published."""


class Unavailable(BusError):
    """Infrastructure failed for longer than its retries: stop with offsets unmoved; a restart goes on."""


class TooManyRefused(BusError):
    """More records are refused than a producer's slip explains: a person decides. The message says which setting allows it."""


class Inconsistent(BusError):
    """Positions, topics or state do not fit together; a person decides. The message says what and names the command."""

    @classmethod
    def newer(cls, what: str, version: int, known: int) -> Inconsistent:
        """State or a record of a version that only a newer release understands."""
        return cls(
            f"{what} has state version {version}, this release knows {known}: a newer release writes it; upgrade this "
            "worker as well"
        )
