"""Cleaned items in; what the encoder reads of each out: its text, and its media where they are fetched and decoded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from upwell.events.contracts import Item
from upwell.inference.features import ItemInput
from upwell.items.embedding import Input, text_of
from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.media.prepare import Prepared, Preparer

KINDS = {"image": ("image", "video"), "audio": ("audio", "video"), "speech": ("speech", "audio", "video")}
"""Which media a modality is read from."""


class Reading:
    """What to read, and how long to wait for media whose host does not answer.

    Args:
        modalities: those that the encoder fuses; media of others are not even fetched.
        patience_s: after so long without an answer the items concerned are refused: one dead host holds up nobody else.
    """

    def __init__(self, preparer: Preparer, modalities: Iterable[str], patience_s: float) -> None:
        self._preparer = preparer
        self._modalities = frozenset(modalities)
        self._kinds = {kind for name in self._modalities for kind in KINDS.get(name, ())}
        self._patience_s = patience_s
        self._until = 0.0

    def begin(self) -> None:
        """A new batch: its media may take their time again."""
        self._until = time.monotonic() + self._patience_s

    def __call__(self, items: Sequence[Item]) -> Iterator[Input]:
        """An outcome per item, in their order, as they are asked for."""
        media = ([piece for piece in item.media if piece.kind in self._kinds] for item in items)
        for item, found in zip(items, self._preparer.prepare_many(media), strict=True):
            if isinstance(found, Prepared):
                yield self._input(item, found)
            elif isinstance(found, MediaUnavailable) and time.monotonic() > self._until:
                yield MediaRejected(f"not to be had within {self._patience_s:g} s: {found}")
            else:
                yield found

    def _input(self, item: Item, found: Prepared) -> Input:
        use = self._modalities
        read = ItemInput(
            text_of(item) if "text" in use else "",
            found.images if "image" in use and len(found.images) else None,
            found.sound if "audio" in use else None,
            found.speech if "speech" in use else None,
        )
        if not read.text and read.images is None and read.sound is None and read.speech is None:
            return MediaRejected(f"nothing to be encoded: neither of {', '.join(sorted(use))} is there")
        return read

    def close(self) -> None:
        self._preparer.close()
