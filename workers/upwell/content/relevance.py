"""Texts and whom they are for in; how close each is to its user, out, where that can be known.

The served text encoder reads the texts. No text is lost for want of it, or of a profile: what is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceError
from upwell.ranking.relevance import Common, relevance
from upwell.settings import Triton
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.content")

PATIENCE_S: Final = 2.0
"""Longest wait for the encoder: a text that is not chosen is better than one that comes too late."""


class Relevance:
    """Close it. Of one thread at a time."""

    def __init__(self, triton: Triton) -> None:
        self._encoder = TextEncoder(
            triton.url,
            model=triton.text_encoder,
            timeout_s=min(PATIENCE_S, triton.encode_timeout_s),
            options=triton.options,
            attempts=1,
        )
        self._common = Common()

    def of(
        self, texts: Sequence[Sequence[str]], user_ids: Sequence[str], profiles: Mapping[str, NDArray[np.float32]]
    ) -> list[list[float] | None]:
        """Of each user's texts, how close they are to the user (see `ranking.relevance`).

        None for a user without a profile, or with one that is not in the encoder's space, and for all where the encoder
        does not answer.

        Args:
            texts: for each of `user_ids`, several.
            profiles: user id to [d] float32, of any length.
        """
        found: list[list[float] | None] = [None] * len(texts)
        known = [n for n, user_id in enumerate(user_ids) if user_id in profiles and texts[n]]
        if not known:
            return found
        try:
            with metrics.STAGE_SECONDS.labels("content", "choose").time():
                vectors = self._encoder.encode([text for n in known for text in texts[n]])
        except InferenceError as error:
            log.warning("encoder.unavailable", error=str(error), chosen_by="facts")
            return found
        start = 0
        for n in known:
            own = vectors[start : start + len(texts[n])]
            start += len(texts[n])
            profile = profiles[user_ids[n]]
            if len(profile) == vectors.shape[1] and profile.any():
                self._common.see(profile[None])
                found[n] = [float(value) for value in relevance(own, profile, self._common.mean)]
        return found

    def close(self) -> None:
        self._encoder.close()
