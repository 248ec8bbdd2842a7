"""How far a worker is in one trigger partition, in memory and as the text that is committed with the offset. Pure.

Triggers end in another order than they stand in the log: urgent and fresh ones first. The committed offset is that of
the first trigger that has not ended; which later ones have, stands in the offset's metadata, and so in the same
transaction as what they published. A new owner reads it and answers none of them again.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

import msgspec

MOST_AHEAD: Final = 16_384
"""Offsets that may lie between the first trigger that has not ended and the last one read: as a bit each, with room to
spare in the 4,096 bytes that a broker takes as metadata."""


class _Text(msgspec.Struct, omit_defaults=True):
    v: int = 1
    outcomes: dict[str, int] = {}
    ended: str = ""
    """Bit n: the trigger at committed offset + n has ended."""


def outcomes(text: str) -> dict[str, int]:
    """Ended triggers of the partition so far, by outcome, from a committed offset's metadata; empty where it has none."""
    return _read(text).outcomes


def _read(text: str) -> _Text:
    try:
        return msgspec.json.decode(text, type=_Text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return _Text()  # of another tool, such as one that moved the offset: nothing beyond it has ended


class Progress:
    """One partition, from takeover on. Offsets are read in order and end in any order."""

    def __init__(self, position: int, text: str = "") -> None:
        """Begin at a committed offset, `text` its metadata."""
        found = _read(text)
        self.next = position
        """The offset after the last one read."""
        self.outcomes = Counter(found.outcomes)
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._ended = {position + bit for bit in _bits(found.ended)}

    def read(self, offset: int) -> bool:
        """Take note of a record; False where it has ended already."""
        self.next = max(self.next, offset + 1)
        if offset in self._ended:
            return False
        self._order.append(offset)
        self._open.add(offset)
        return True

    def end(self, offset: int, outcome: str) -> None:
        """The trigger read at `offset` has ended; what it published goes into the next transaction."""
        self._open.remove(offset)
        self._ended.add(offset)
        self.outcomes[outcome] += 1

    @property
    def position(self) -> int:
        """What to commit: the first offset that has not ended."""
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        return self._order[0] if self._order else self.next

    @property
    def ahead(self) -> int:
        """Offsets between `position` and the last one read."""
        return self.next - self.position

    def text(self) -> str:
        """What to commit with `position`."""
        position = self.position
        self._ended = {offset for offset in self._ended if offset >= position}
        ended = _packed(offset - position for offset in self._ended)
        return msgspec.json.encode(_Text(outcomes=dict(self.outcomes), ended=ended)).decode()


def _packed(bits: Iterable[int]) -> str:
    number = bytearray()
    for bit in bits:
        if bit // 8 >= len(number):
            number.extend(bytes(bit // 8 + 1 - len(number)))
        number[bit // 8] |= 1 << bit % 8
    return base64.b85encode(zlib.compress(bytes(number), 9)).decode() if number else ""


def _bits(packed: str) -> list[int]:
    try:
        number = zlib.decompress(base64.b85decode(packed)) if packed else b""
    except (ValueError, zlib.error, binascii.Error):
        return []
    return [8 * place + bit for place, byte in enumerate(number) for bit in range(8) if byte >> bit & 1]
