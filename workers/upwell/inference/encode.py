"""Texts in, unit-length float32 vectors out, from the text encoder on Triton; one model version for a client's life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.client import text_column
from upwell.inference.versioned import VersionedModel

BATCH: Final = 64
"""The model's own `max_batch_size`."""
MAX_CHARS: Final = 8_000
"""More is never read: the encoder cuts at a few hundred tokens."""


class TextEncoder(VersionedModel):
    """The served sentence encoder.

    Args:
        url: Triton's gRPC address, host:port.
        model: its name; `text_encoder_int8` is the faster one.
        timeout_s: deadline of one call of up to 64 texts.
        in_flight: concurrent calls.
        options: gRPC channel options.
        attempts: calls per request, the first one included.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "text_encoder",
        timeout_s: float = 10.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 4,
        attempts: int = 4,
    ) -> None:
        super().__init__(
            url, model, "text encoder",
            timeout_s=timeout_s, options=options, in_flight=in_flight, attempts=attempts,
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [n, d], rows of unit length in the texts' order; d is the model's (384 for MiniLM), n may be 0.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: the model refused a text.
            ModelChanged: the server holds another model than at the first call.
        """
        if not texts:
            width = self.encode([""]).shape[1]
            return np.empty((0, width), dtype=np.float32)
        # Texts of like length share a call, so that none is padded to the longest of all.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        parts = self.client.map(lambda group: self._call([texts[i][:MAX_CHARS] for i in group]), groups)
        vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
        for group, part in zip(groups, parts, strict=True):
            vectors[group] = part
        return vectors

    def _ask(self) -> object:
        return self.encode([""])

    def _call(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        answer = self._infer({"TEXT": text_column(texts)}, ("EMBEDDING",))
        return answer["EMBEDDING"].astype(np.float32, copy=False)
