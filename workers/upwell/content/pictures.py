"""An item and a user in; the item's picture, and those of items that the user likes, decoded and bounded, out.

A picture that cannot be had costs nothing else: the poster does without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from upwell.events.contracts import Media
from upwell.media.errors import MediaError
from upwell.media.prepare import Preparer
from upwell.settings import MediaSettings
from upwell.store.contents import ContentStore

log = structlog.get_logger("upwell.content")

SIDE: Final = 1_024
"""Longest side, pixels."""
MOST_LIKED: Final = 3

Pixels = npt.NDArray[np.uint8]


class Pictures:
    """Thread-safe as its parts are. Close it: it holds a decoding process."""

    def __init__(self, store: ContentStore, settings: MediaSettings) -> None:
        self._store = store
        self._preparer = Preparer(settings)

    def of(self, user_id: str, item_id: str, because: Sequence[str] = ()) -> tuple[Pixels | None, list[Pixels]]:
        """The item's picture, uint8 [h, w, 3], and up to three of items that the user likes.

        Args:
            because: items of his that speak for this one come first, then those nearest to his profile.

        Raises:
            psycopg.OperationalError: they could not be read.
        """
        known = self._store.media([item_id, *because])
        picture = self._first(known.get(item_id, []))
        if picture is None:
            return None, []  # there is nothing to restyle
        wanted = [known[item] for item in because if item in known and item != item_id]
        near = self._store.taste_media(user_id, item_id, MOST_LIKED)
        liked: list[Pixels] = []
        for media in [*wanted, *(media for media in near if media not in wanted)]:
            if len(liked) == MOST_LIKED:
                break
            if (found := self._first(media)) is not None:
                liked.append(found)
        return picture, liked

    def _first(self, media: Sequence[Media]) -> Pixels | None:
        """The first picture that can be had."""
        for piece in media:
            if piece.kind != "image" or (piece.uri is None and piece.data is None):
                continue
            try:
                return self._preparer.thumbnail(piece, SIDE)
            except MediaError as error:
                log.info("picture.left_out", uri=piece.uri, reason=str(error))
        return None

    def close(self) -> None:
        self._preparer.close()
