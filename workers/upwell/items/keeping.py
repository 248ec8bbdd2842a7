"""Embedded items in; the same as they are stored out: media that came inside of events lie in the media store, and texts
that are nearly those of another item of the batch are marked. Nothing is left out; the same again gives the same."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import msgspec

from upwell.events.contracts import Media
from upwell.items.embedding import text_of
from upwell.items.near_duplicates import near_duplicates
from upwell.media.errors import MediaRejected
from upwell.media.fetch import inline
from upwell.media.store import EXTENSIONS, MediaStore
from upwell.store.items import ItemRow

AT_ONCE: Final = 8
"""Files written at the same time: stores answer late, and take many."""
ANY: Final = "application/octet-stream"
DUPLICATE_OF: Final = "duplicate_of"


class Keeper:
    """Puts inline media into `store`; without one their bytes stay in the log alone. Close it: it holds threads.

    Args:
        max_bytes: a larger piece, which no encoder has read, is not kept.
    """

    def __init__(self, store: MediaStore | None, max_bytes: int) -> None:
        self._store, self._max_bytes = store, max_bytes
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="keep")

    def keep(self, rows: Sequence[ItemRow]) -> list[ItemRow]:
        """The rows with a URI, of the store, for every piece that travelled in an event.

        Raises:
            MediaUnavailable: the store does not take them now; repeat it.
        """
        return list(self._pool.map(self._row, rows))

    def _row(self, row: ItemRow) -> ItemRow:
        if not row.item.media:
            return row
        return replace(row, item=msgspec.structs.replace(row.item, media=[self._piece(m) for m in row.item.media]))

    def _piece(self, piece: Media) -> Media:
        try:
            data = inline(piece)
        except MediaRejected:  # of a modality that nobody reads
            data = b""
        if data is None:
            return piece
        if self._store is None or not 0 < len(data) <= self._max_bytes:
            return msgspec.structs.replace(piece, uri=None, data=None)
        # What a stranger says of a file is no reason to give it an ending that a browser would run.
        stored = self._store.put(data, piece.mime if piece.mime and piece.mime in EXTENSIONS else ANY)
        return msgspec.structs.replace(piece, uri=stored.uri, data=None)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def mark_near_duplicates(rows: Sequence[ItemRow]) -> tuple[list[ItemRow], int]:
    """The rows, with `duplicate_of` in what was perceived of those whose text is nearly that of an earlier one: its item
    id. A mark of an earlier record goes.

    Returns:
        The rows, and how many are marked.
    """
    groups = near_duplicates({row.item.item_id: text_of(row.item) for row in rows})
    first = {item_id: group[0] for group in groups for item_id in group[1:]}
    marked = []
    for row in rows:
        perceived = {name: value for name, value in row.embedding.perceived.items() if name != DUPLICATE_OF}
        if row.item.item_id in first:
            perceived[DUPLICATE_OF] = first[row.item.item_id]
        marked.append(replace(row, embedding=row.embedding._replace(perceived=perceived)))
    return marked, len(first)
