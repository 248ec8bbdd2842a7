"""Lessons of a batch in, records of `statistics` out; and back: what the ranking learns from all users, on the wire.

Rows are a worker's own, so records carry item ids, each once, and the lessons as columns of numbers (`_COLUMNS`), little
endian, compressed. What is learned is what was written: numbers are rounded before anybody learns from them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from upwell.ranking import learner
from upwell.ranking.learner import Lessons, Tuning

STEPS: Final = 10_000
"""Valences are told in so many steps from 0 to 1."""
MOST_CHARACTERS: Final = 65_536
"""Of a record's ids: a lesson may name a dozen items that no other one names."""
MOST_BYTES: Final = 1 << 22
"""Of a record's lessons, uncompressed."""
_COLUMNS: Final = (
    ("item", "<u2"),
    ("stage", "u1"),
    ("held", "u1"),
    ("taught", "u1"),
    ("soon", "<u2"),
    ("valence", "<i2"),
)
"""[n] each, n lessons; after them of all events before them, newest first, items (<u2) and valences (<i2), and gradients
(<f2) of the lessons that have one. Items are places in the record's ids; bit b of `soon` is the b-th event's. The number
of lessons comes first (<u4)."""
_HALF: Final = 60_000.0
"""Slopes are cut at what half precision holds."""


class Taught:
    """What the events of one batch teach, in log order."""

    def __init__(self, tuning: Tuning, share: float = 1.0) -> None:
        """
        Args:
            share: of the events that are told, chosen by their hashes: the same ones wherever they are applied.
        """
        self._tuning = tuning
        self._below = int(share * 2.0**64)
        self.rows = learner.lessons(64, tuning)
        self.count = 0

    def takes(self, event: int) -> bool:
        """Whether what an event teaches is told. event: 64-bit hash of its id."""
        return event < self._below

    def place(self) -> int:
        """Where the next lesson goes; it is there from now on."""
        if self.count == len(self.rows.item):
            more = learner.lessons(2 * self.count, self._tuning)
            for into, held in zip(more, self.rows, strict=True):
                into[: self.count] = held
            self.rows = more
        self.count += 1
        return self.count - 1

    def records(self, ids: Sequence[str], most: int) -> Iterator[tuple[list[str], bytes]]:
        """(item ids, lessons that name them by their place there), at most so many lessons a record, and about
        `MOST_CHARACTERS` of ids."""
        for begin in range(0, self.count, most):
            yield from self._record(ids, begin, min(begin + most, self.count))

    def _record(self, ids: Sequence[str], begin: int, end: int) -> Iterator[tuple[list[str], bytes]]:
        part = Lessons._make(column[begin:end] for column in self.rows)
        there = np.arange(part.before.shape[1]) < part.held[:, None]
        named, places = np.unique(np.concatenate([part.item, part.before[there]]), return_inverse=True)
        told = [ids[row] for row in named.tolist()]
        if end - begin > 1 and (sum(map(len, told)) > MOST_CHARACTERS or len(told) > 2**16):
            yield from self._record(ids, begin, (begin + end) // 2)
            yield from self._record(ids, (begin + end) // 2, end)
            return
        columns = {
            **part._asdict(),
            "item": places[: end - begin],
            "soon": (part.soon & there) @ (1 << np.arange(there.shape[1])),
            "valence": np.rint(part.valence * STEPS),
        }
        pieces = [np.uint32(end - begin).astype("<u4"), *(columns[name].astype(kind) for name, kind in _COLUMNS)]
        pieces += [
            places[end - begin :].astype("<u2"),
            np.rint(part.before_valence[there] * STEPS).astype("<i2"),
            part.gradient[part.taught].clip(-_HALF, _HALF).astype("<f2"),
        ]
        yield told, zlib.compress(b"".join(piece.tobytes() for piece in pieces), 1)


def read(ids: Sequence[int], told: bytes, tuning: Tuning, stages: int) -> tuple[Lessons, int]:
    """Lessons of a record, for a worker whose rows of the record's items are `ids`.

    Raises:
        ValueError: they are of another tuning, or name what is not there.
    """
    data = _inflated(told)
    count = int(np.frombuffer(data, "<u4", 1)[0]) if len(data) >= 4 else -1
    at = 4

    def take(kind: str, number: int) -> NDArray[Any]:
        nonlocal at
        size = np.dtype(kind).itemsize * number
        if number < 0 or at + size > len(data):
            raise ValueError(f"lessons end after {len(data)} bytes: cut off, or made by another release")
        at += size
        return np.frombuffer(data, kind, number, at - size)

    columns = {name: take(kind, count) for name, kind in _COLUMNS}
    held, taught = columns["held"].astype(np.int32), columns["taught"] == 1
    number = int(held.sum())
    before, valences = take("<u2", number), take("<i2", number)
    found = learner.lessons(count, tuning)
    scorers, most = found.gradient.shape[1], found.before.shape[1]
    gradient = take("<f2", scorers * int(taught.sum())).reshape(-1, scorers)
    if at != len(data) or held.max(initial=0) > most:
        raise ValueError(
            f"lessons of {held.max(initial=0)} events, {len(data) - at} bytes too many: of another release"
        )
    named = max(int(columns["item"].max(initial=0)), int(before.max(initial=0)))
    if count and (named >= len(ids) or columns["stage"].max() >= stages):
        raise ValueError(f"a lesson names item {named} of {len(ids)}, or stage {columns['stage'].max()} of {stages}")
    if max(np.abs(columns["valence"]).max(initial=0), np.abs(valences).max(initial=0)) > STEPS:
        raise ValueError("a lesson holds a valence above 1")
    if not np.isfinite(gradient).all():
        raise ValueError("a lesson holds a slope that is no number")
    rows = np.asarray(ids, np.int32)
    there = np.arange(most) < held[:, None]
    found.held[:], found.stage[:], found.taught[:] = held, columns["stage"], taught
    found.valence[:] = columns["valence"] / np.float32(STEPS)
    found.soon[:] = columns["soon"][:, None] >> np.arange(most) & 1
    found.before_valence[there] = valences / np.float32(STEPS)
    found.gradient[taught] = gradient
    if count:
        found.item[:], found.before[there] = rows[columns["item"]], rows[before]
    return found, count


def _inflated(told: bytes) -> bytes:
    opened = zlib.decompressobj()
    try:
        data = opened.decompress(told, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"lessons cannot be read: {error}") from error
    if not opened.eof:
        raise ValueError(f"lessons are cut off, or longer than {MOST_BYTES} bytes")
    return data


class Array(msgspec.Struct, array_like=True):
    """An array as its bytes."""

    dtype: str
    shape: list[int]
    data: bytes


def packed_array(value: NDArray[Any]) -> Array:
    """An array, packed."""
    return Array(value.dtype.str, list(value.shape), value.tobytes())


def unpacked_array(held: Array) -> NDArray[Any]:
    """What `packed_array` packed, to be read only."""
    return np.frombuffer(held.data, held.dtype).reshape(held.shape)


def packed(state: Mapping[str, NDArray[Any]], tuning: Tuning) -> dict[str, Array]:
    """A learner's state (`learner.snapshot`), and what it was learned with."""
    held = {**state, "constants": learner.constants(tuning)}
    return {name: packed_array(value) for name, value in held.items()}


def unpacked(held: Mapping[str, Array], tuning: Tuning) -> dict[str, NDArray[Any]]:
    """What `packed` packed, as `learner.restore` takes it.

    Raises:
        ValueError, KeyError: it is of another shape, or was learned with another tuning.
    """
    found = {name: unpacked_array(each) for name, each in held.items()}
    if not np.array_equal(found.pop("constants"), learner.constants(tuning)):
        raise ValueError("the snapshot was learned with another tuning")
    return found
