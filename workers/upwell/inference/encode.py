"""Texts in, unit-length float32 vectors out, from the text encoder on Triton; one model version for a client's life."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.client import ModelClient, text_column
from upwell.inference.errors import InferenceRejected, ModelChanged

BATCH: Final = 64
"""The model's own `max_batch_size`."""
MAX_CHARS: Final = 8_000
"""More is never read: the encoder cuts at a few hundred tokens."""


class TextEncoder:
    """The served sentence encoder.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one call of up to 64 texts.
        in_flight: concurrent calls.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "text_encoder",
        timeout_s: float = 10.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 4,
    ) -> None:
        self.client = ModelClient(url, model, timeout_s=timeout_s, options=options, in_flight=in_flight)
        self._lock = threading.Lock()
        self._version = ""

    @property
    def model_version(self) -> str:
        """`name@hash` of the served weights, stable over restarts; asked of the server at the first use.

        Raises: as `encode`.
        """
        if not self._version:
            self.encode([""])
        return self._version

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

    def _call(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        answer = self.client.infer({"TEXT": text_column(texts)}, ("EMBEDDING", "VERSION"))
        version = answer["VERSION"].reshape(-1)[0].decode()
        with self._lock:
            if self._version and version != self._version:
                raise ModelChanged(
                    f"The text encoder now serves {version}; this worker began with {self._version}."
                    " Vectors of two models cannot be compared: restart the workers to prepare the new one."
                )
            self._version = version
        vectors: npt.NDArray[np.float32] = answer["EMBEDDING"].astype(np.float32, copy=False)
        if not np.isfinite(vectors).all():
            raise InferenceRejected("the text encoder answered with numbers that are not finite")
        return vectors

    def close(self) -> None:
        self.client.close()
