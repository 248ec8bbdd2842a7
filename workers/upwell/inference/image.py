"""Pictures in; embeddings, a place in the texts' space and class names out, from the image encoder on Triton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.errors import InferenceRejected
from upwell.inference.versioned import VersionedModel

BATCH: Final = 8
"""Pictures of a call: 1.2 MB at 224 pixels."""
SIDE: Final = 224


@dataclass(frozen=True, slots=True)
class Seen:
    """What the encoder makes of n pictures, in their order."""

    embedding: npt.NDArray[np.float32]
    """[n, d], rows of unit length; d is the model's (1280 for EfficientNet-Lite0)."""
    joint: npt.NDArray[np.float32]
    """[n, j], rows of unit length in the text encoder's space (j = 384); j = 0 where the model has none."""
    labels: list[list[str]]
    """Of each picture the likeliest class names, likeliest first; empty where the model has none."""
    probabilities: npt.NDArray[np.float32]
    """[n, k] of the labels."""


class ImageEncoder(VersionedModel):
    """The served image encoder.

    Args:
        url: Triton's gRPC address, host:port.
        side: pixels of the pictures' sides that the model is configured for.
        timeout_s: deadline of one call of up to 8 pictures.
        in_flight: concurrent calls.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "image_encoder",
        side: int = SIDE,
        timeout_s: float = 10.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 4,
    ) -> None:
        super().__init__(url, model, "image encoder", timeout_s=timeout_s, options=options, in_flight=in_flight)
        self.side = side

    def encode(self, pictures: npt.NDArray[np.uint8]) -> Seen:
        """What is seen on uint8 [n, side, side, 3] RGB, n > 0; all or none.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: the array is another one, or the model refused it.
            ModelChanged: the server holds another model than at the first call.
        """
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (self.side, self.side, 3) or not len(pictures):
            raise InferenceRejected(
                f"the image encoder takes uint8 [n, {self.side}, {self.side}, 3], n > 0; got {pictures.dtype}"
                f" {list(pictures.shape)}"
            )
        groups = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
        parts = self.client.map(
            lambda group: self._infer(
                {"IMAGE": np.ascontiguousarray(group)}, ("EMBEDDING", "JOINT", "LABELS", "PROBABILITIES")
            ),
            groups,
        )
        labels = [[name.decode() for name in row] for part in parts for row in part["LABELS"]]
        embedding, joint, probabilities = (
            np.concatenate([part[name] for part in parts]) for name in ("EMBEDDING", "JOINT", "PROBABILITIES")
        )
        return Seen(embedding, joint, labels, probabilities)

    def _ask(self) -> object:
        return self.encode(np.zeros((1, self.side, self.side, 3), dtype=np.uint8))
